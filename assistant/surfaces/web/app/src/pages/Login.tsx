import { type FormEvent, useState } from "react";
import { api } from "../lib/api";
import { useAction, useLoad } from "../lib/load";
import type { LoginWays, Person } from "../lib/types";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Show } from "../ui/States";
import { Problem } from "../ui/States";

export function Login({ onIn }: { onIn: () => void }) {
  document.title = "Sign in · Deskhand";
  return (
    <main className="login">
      <div className="login-card">
        <img src="/icon.svg" alt="" width={44} height={44} />
        <h1>Deskhand</h1>
        <p className="hint">Answers for the support desk, with their sources.</p>
        <Ways onIn={onIn} />
      </div>
    </main>
  );
}

/** The session ended while somebody was at work: what they see, and have typed, stays behind this. */
export function LoginAgain({ person, onIn, onLeave }: { person: Person; onIn: () => void; onLeave: () => void }) {
  return (
    <Dialog title="Sign in again" onClose={onLeave}>
      <p className="pad-below">Your session has ended. Nothing was lost; this page goes on once you are signed in.</p>
      <Ways onIn={onIn} email={person.name.includes("@") ? person.name : String(person.id).includes("@") ? String(person.id) : ""} />
    </Dialog>
  );
}

function Ways({ onIn, email = "" }: { onIn: () => void; email?: string }) {
  const ways = useLoad<LoginWays>("/login");
  return (
    <Show of={ways}>
      {({ local, providers }) => (
        <div className="stack">
          {providers.map((provider) => (
            <a key={provider.id} className="button wide" href={`/api/v1/oidc/${encodeURIComponent(provider.id)}/start`}>
              Sign in with {provider.label}
            </a>
          ))}
          {local && providers.length > 0 && <p className="or">or</p>}
          {local && <Local onIn={onIn} email={email} />}
          {!local && providers.length === 0 && <Problem text="Nobody can sign in yet. An administrator makes the first login with: deskhand login add" />}
          <Refused />
        </div>
      )}
    </Show>
  );
}

const PROBLEMS: Record<string, string> = {
  state: "The sign-in took too long, or was begun in another window. Start it again.",
  refused: "Your organisation’s sign-in refused it. Try again, or ask whoever runs it.",
  group: "None of your groups may come in here. Ask an administrator of Deskhand.",
  taken: "This address belongs to another account of your organisation’s sign-in. Ask an administrator of Deskhand.",
  disabled: "Your login here is disabled. Ask an administrator of Deskhand.",
  unavailable: "Your organisation’s sign-in can’t be reached. Try again in a moment.",
};

/** What went wrong on the way back from an identity provider. */
function Refused() {
  const code = new URLSearchParams(location.search).get("problem");
  return code ? <Problem text={PROBLEMS[code] ?? PROBLEMS.refused!} /> : null;
}

function Local({ onIn, email }: { onIn: () => void; email: string }) {
  const { busy, error, run } = useAction();
  const [password, setPassword] = useState("");
  const send = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    if (busy) return;
    const done = await run(() => api.post("/login", { email: String(form.get("email")).trim(), password }));
    if (done) onIn();
    else setPassword("");
  };
  return (
    <form className="stack" onSubmit={send}>
      <Field label="E-mail" name="email" type="email" autoComplete="username" required defaultValue={email} autoFocus={!email} />
      <Field
        label="Password"
        name="password"
        type="password"
        autoComplete="current-password"
        required
        autoFocus={!!email}
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Problem text={error} />
      <Button type="submit" look="primary" className="wide" busy={busy}>
        Sign in
      </Button>
    </form>
  );
}
