import { type FormEvent, useState } from "react";
import { Side } from "../chat/Side";
import { api, keepToken } from "../lib/api";
import { useAction, useLoad } from "../lib/load";
import { atLeast, useSession } from "../lib/session";
import type { Id, Page, Session } from "../lib/types";
import { ago, day } from "../lib/words";
import { Button } from "../ui/Button";
import { Dialog, FormDialog } from "../ui/Dialog";
import { Check, Field, Select } from "../ui/Field";
import { Bar, Shell } from "../ui/Shell";
import { Empty, Problem, Show } from "../ui/States";
import { copy, toast } from "../ui/Toasts";
import { Table } from "../ui/Table";

interface Token {
  id: Id;
  name: string;
  scopes: string[];
  created_at: string;
  expires_at: string | null;
  used_at: string | null;
}

export function Account() {
  const { session } = useSession();
  return (
    <Shell wide side={<Side />}>
      <Bar title="Account" />
      <div className="page narrow">
        <p className="lead">
          {session.person.name} · {{ agent: "Agent", owner: "Knowledge owner", admin: "Admin" }[session.person.role]}
        </p>
        <Tokens />
        {session.features.local && <Password />}
      </div>
    </Shell>
  );
}

function Tokens() {
  const tokens = useLoad<Token[] | Page<Token>>("/tokens");
  const { session } = useSession();
  const [making, setMaking] = useState(false);
  const [secret, setSecret] = useState("");
  const [dropping, setDropping] = useState<Token | null>(null);
  const scopes = ["chat", ...(atLeast(session.person.role, "admin") ? ["admin", "metrics"] : [])];
  const make = async (form: FormData) => {
    const made = await api.post<{ token: string }>("/tokens", { name: form.get("name"), scopes: form.getAll("scopes"), days: Number(form.get("days")) });
    setSecret(made.token);
    tokens.reload();
  };
  return (
    <section className="block">
      <header>
        <h2>Tokens</h2>
        <Button small icon="plus" onClick={() => setMaking(true)}>
          New token
        </Button>
      </header>
      <p className="hint">For scripts, for OpenAI-compatible clients and for MCP. A token may do at most what you may do at the moment.</p>
      <Show of={tokens}>
        {(found) => {
          const rows = Array.isArray(found) ? found : found.items;
          if (!rows.length) return <Empty icon="key" title="No tokens yet" />;
          return (
            <Table
              name="Tokens"
              rows={rows}
              id={(row) => String(row.id)}
              columns={[
                { name: "Name", show: (row) => row.name },
                { name: "For", show: (row) => row.scopes.join(", ") },
                { name: "Made", show: (row) => day(row.created_at) },
                { name: "Ends", show: (row) => (row.expires_at ? day(row.expires_at) : "never") },
                { name: "Last used", show: (row) => ago(row.used_at) || "never" },
                {
                  name: "",
                  show: (row) => (
                    <Button small look="quiet" onClick={() => setDropping(row)}>
                      Revoke
                    </Button>
                  ),
                },
              ]}
            />
          );
        }}
      </Show>
      {making && (
        <FormDialog title="New token" action="Make it" onClose={() => setMaking(false)} submit={make}>
          <Field label="Name" name="name" required maxLength={100} autoFocus placeholder="what it is for" />
          <fieldset className="choices">
            <legend>What it may do</legend>
            {scopes.map((scope) => (
              <Check key={scope} name="scopes" value={scope} label={SCOPES[scope]!} defaultChecked={scope === "chat"} />
            ))}
          </fieldset>
          <Select label="Ends after" name="days" defaultValue="90">
            <option value="7">a week</option>
            <option value="30">a month</option>
            <option value="90">three months</option>
            <option value="365">a year</option>
          </Select>
        </FormDialog>
      )}
      {secret && (
        <Dialog title="Your new token" onClose={() => setSecret("")}>
          <div className="stack">
            <p>Keep it now: only a hash of it is stored, so it is shown this once.</p>
            <Field label="Token" value={secret} readOnly onFocus={(event) => event.target.select()} />
            <footer>
              <Button look="primary" icon="copy" onClick={() => void copy(secret, "Token copied")}>
                Copy
              </Button>
            </footer>
          </div>
        </Dialog>
      )}
      {dropping && (
        <FormDialog
          title="Revoke the token?"
          action="Revoke"
          danger
          onClose={() => setDropping(null)}
          submit={async () => {
            await api.remove(`/tokens/${dropping.id}`);
            tokens.reload();
          }}
        >
          <p>Whatever uses “{dropping.name}” stops working at once.</p>
        </FormDialog>
      )}
    </section>
  );
}

const SCOPES: Record<string, string> = {
  chat: "Ask, search, read what you may read",
  admin: "Administer Deskhand",
  metrics: "Read metrics (Prometheus), nothing else",
};

function Password() {
  const { busy, error, run } = useAction();
  const change = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const target = event.currentTarget;
    const form = new FormData(target);
    if (busy) return;
    if (await run(() => api.post("/password", { old: form.get("old"), new: form.get("new") }))) {
      target.reset();
      // The session is a new one, and so is its token.
      keepToken((await api.get<Session>("/session")).csrf);
      toast("Your password was changed.");
    }
  };
  return (
    <section className="block">
      <header>
        <h2>Password</h2>
      </header>
      <form className="stack" onSubmit={change}>
        <Field label="Old password" name="old" type="password" autoComplete="current-password" required />
        <Field label="New password" name="new" type="password" autoComplete="new-password" required minLength={10} hint="At least 10 characters; a few words together are good." />
        <Problem text={error} />
        <div>
          <Button type="submit" busy={busy}>
            Change it
          </Button>
        </div>
      </form>
    </section>
  );
}
