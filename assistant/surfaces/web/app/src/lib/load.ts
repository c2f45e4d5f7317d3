import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError, api, said } from "./api";

export interface Loaded<T> {
  data: T | null;
  error: string;
  missing: boolean;
  reload: () => void;
}

/** What a path answers, read anew every `every` seconds while the page is looked at. A null path loads nothing. */
export function useLoad<T>(path: string | null, every = 0): Loaded<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; error: string; missing: boolean }>({
    path: null,
    data: null,
    error: "",
    missing: false,
  });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (path === null) return;
    const aborted = new AbortController();
    api
      .get<T>(path, aborted.signal)
      .then((data) => setState({ path, data, error: "", missing: false }))
      .catch((error: unknown) => {
        if (aborted.signal.aborted) return;
        const missing = error instanceof ApiError && error.status === 404;
        // What was shown stays while a refresh fails.
        setState((old) => ({ path, data: old.path === path ? old.data : null, error: said(error), missing }));
      });
    return () => aborted.abort();
  }, [path, turn]);
  useEffect(() => {
    if (!every || path === null) return;
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, every * 1000);
    return () => clearInterval(timer);
  }, [every, path, reload]);
  const current = state.path === path;
  return { data: current ? state.data : null, error: current ? state.error : "", missing: current && state.missing, reload };
}

/** A value that follows `value` once it has been still for `ms`. */
export function useSettled<T>(value: T, ms = 200): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

/** The latest of a value, for callbacks that outlive a render. */
export function useLatest<T>(value: T): { readonly current: T } {
  const ref = useRef(value);
  useEffect(() => {
    ref.current = value;
  });
  return ref;
}

/** An action on a button: is it running, and what went wrong. */
export function useAction(): { busy: boolean; error: string; run: (action: () => Promise<unknown>) => Promise<boolean> } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const run = useCallback(async (action: () => Promise<unknown>) => {
    setBusy(true);
    setError("");
    try {
      await action();
      return true;
    } catch (problem) {
      setError(said(problem));
      return false;
    } finally {
      setBusy(false);
    }
  }, []);
  return { busy, error, run };
}
