import { Suspense, lazy, useCallback, useEffect, useState } from "react";
import { ChatPage } from "./chat/ChatPage";
import { ApiError, api, keepToken, onExpired, said } from "./lib/api";
import { go, usePath } from "./lib/route";
import { SessionContext } from "./lib/session";
import type { Session } from "./lib/types";
import { HandOvers } from "./pages/HandOvers";
import { Login, LoginAgain } from "./pages/Login";
import { Missing } from "./pages/Missing";
import { Shared } from "./pages/Shared";
import { Account } from "./pages/Account";
import { Loading, Problem } from "./ui/States";
import { Toasts } from "./ui/Toasts";

const Admin = lazy(() => import("./admin/Admin"));

type State = { at: "start" } | { at: "out" } | { at: "in"; session: Session; expired: boolean } | { at: "down"; why: string };

/** Who is signed in decides what there is; a session that ends leaves the page as it is and asks for the password. */
export function App() {
  const [state, setState] = useState<State>({ at: "start" });
  const enter = useCallback(async () => {
    try {
      const session = await api.get<Session | null>("/session");
      if (!session) return setState({ at: "out" });
      keepToken(session.csrf);
      setState((old) => {
        // Somebody else's page is not for whoever signs in now.
        if (old.at === "in" && old.session.person.id !== session.person.id) location.assign("/");
        return { at: "in", session, expired: false };
      });
      // What waited for a connection waited for a session, too.
      dispatchEvent(new Event("online"));
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) setState({ at: "out" });
      else setState({ at: "down", why: said(error) });
    }
  }, []);
  useEffect(() => {
    onExpired(() => setState((old) => (old.at === "in" ? { ...old, expired: true } : old)));
    void enter();
  }, [enter]);
  useEffect(() => {
    if (state.at !== "down") return;
    const timer = setTimeout(() => void enter(), 3000);
    return () => clearTimeout(timer);
  }, [state, enter]);
  const leave = useCallback(async () => {
    await api.post("/logout").catch(() => {});
    sessionStorage.clear();
    go("/");
    setState({ at: "out" });
  }, []);

  if (state.at === "start") return <main className="centre"><Loading /></main>;
  if (state.at === "down") return <main className="centre"><h1 className="visually-hidden">Deskhand</h1><Problem text={state.why} retry={() => void enter()} /></main>;
  if (state.at === "out") return <Login onIn={() => void enter()} />;
  return (
    <SessionContext value={{ session: state.session, leave: () => void leave() }}>
      <Routes />
      <Toasts />
      {state.expired && <LoginAgain person={state.session.person} onIn={() => void enter()} onLeave={() => setState({ at: "out" })} />}
    </SessionContext>
  );
}

function Routes() {
  const [, first = "", second] = usePath().split("/");
  switch (first) {
    case "":
      return <ChatPage id={null} />;
    case "c":
      return <ChatPage id={second ?? null} />;
    case "shared":
      return <Shared token={second ?? ""} />;
    case "handovers":
      return <HandOvers id={second || null} />;
    case "account":
      return <Account />;
    case "admin":
      return (
        <Suspense fallback={<main className="centre"><Loading /></main>}>
          <Admin page={second || "sources"} />
        </Suspense>
      );
    default:
      return <Missing />;
  }
}
