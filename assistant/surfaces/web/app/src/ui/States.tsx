import type { ReactNode } from "react";
import type { Loaded } from "../lib/load";
import { Button } from "./Button";
import { Icon, type IconName } from "./Icon";

/** What went wrong, said where it happened. */
export function Problem({ text, retry }: { text: string; retry?: () => void }) {
  if (!text) return null;
  return (
    <div className="problem" role="alert">
      <Icon name="warn" />
      <span>{text}</span>
      {retry && (
        <Button small onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} size={28} />
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <div className="loading" role="status">
      <span className="spinner" aria-hidden="true" />
      {what} …
    </div>
  );
}

/** Shows what was loaded, or that it is on its way, or why it can't be had. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ReactNode }) {
  return (
    <>
      <Problem text={of.error} retry={of.reload} />
      {of.data !== null ? children(of.data) : !of.error && <Loading />}
    </>
  );
}

const TONES = { good: "check", bad: "warn", busy: "retry", off: "pause", plain: null } as const;

/** A state in a word, with a sign beside its colour. */
export function Badge({ tone = "plain", children }: { tone?: keyof typeof TONES; children: ReactNode }) {
  const icon = TONES[tone];
  return (
    <span className={`badge ${tone}`}>
      {icon && <Icon name={icon} size={13} />}
      {children}
    </span>
  );
}
