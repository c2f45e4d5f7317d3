import { useState } from "react";
import { api } from "../lib/api";
import { useAction, useLoad } from "../lib/load";
import { useSession } from "../lib/session";
import type { Role } from "../lib/types";
import { ago } from "../lib/words";
import { Button } from "../ui/Button";
import { Dialog, FormDialog } from "../ui/Dialog";
import { Field, Select } from "../ui/Field";
import { MenuItem, Popover } from "../ui/Popover";
import { Badge, Problem, Show } from "../ui/States";
import { Table } from "../ui/Table";
import { copy, toast } from "../ui/Toasts";

interface LoginRow {
  id: string;
  email: string;
  name: string;
  role: Role;
  state: "active" | "disabled";
  local: boolean;
  providers: string[];
  last_login_at: string | null;
}

const ROLES: [Role, string][] = [
  ["agent", "Agent"],
  ["owner", "Knowledge owner"],
  ["admin", "Admin"],
];

type Asked = { what: "role" | "reset" | "disable"; login: LoginRow } | { what: "add" };

/** Who may sign in, and as what. What they may read, their sources say. */
export function Logins() {
  const logins = useLoad<LoginRow[]>("/admin/logins");
  const { session } = useSession();
  const [asked, setAsked] = useState<Asked | null>(null);
  const [password, setPassword] = useState<{ email: string; password: string } | null>(null);
  const { error, run } = useAction();
  const enable = (login: LoginRow) =>
    void run(async () => {
      await api.patch(`/admin/logins/${encodeURIComponent(login.id)}`, { disabled: false });
      logins.reload();
    });
  return (
    <>
      <div className="page-head">
        <p className="lead">Who may sign in, and what they may do here. What they may read, their sources say.</p>
        <Button look="primary" icon="plus" onClick={() => setAsked({ what: "add" })}>
          Add somebody
        </Button>
      </div>
      <Problem text={error} />
      <Show of={logins}>
        {(rows) => (
          <Table
            name="Logins"
            rows={rows}
            id={(row) => row.id}
            columns={[
              { name: "Name", show: (row) => row.name || row.email },
              { name: "E-mail", show: (row) => <span className="breakable">{row.email}</span> },
              { name: "Role", show: (row) => ROLES.find(([role]) => role === row.role)?.[1] ?? row.role },
              { name: "Signs in by", show: (row) => [row.local && "password", ...row.providers].filter(Boolean).join(", ") },
              { name: "State", show: (row) => <Badge tone={row.state === "active" ? "good" : "off"}>{row.state}</Badge> },
              { name: "Last here", show: (row) => ago(row.last_login_at) || "never" },
              {
                name: "",
                show: (row) => (
                  <Popover icon="more" role="menu" align="end" name={`Change ${row.email}`}>
                    {(close) => {
                      const ask = (what: "role" | "reset" | "disable") => () => {
                        close();
                        setAsked({ what, login: row });
                      };
                      return (
                        <>
                          <MenuItem icon="person" onPick={ask("role")}>
                            Change the role
                          </MenuItem>
                          {row.local && (
                            <MenuItem icon="key" onPick={ask("reset")}>
                              New password
                            </MenuItem>
                          )}
                          {row.state === "disabled" ? (
                            <MenuItem
                              icon="play"
                              onPick={() => {
                                close();
                                enable(row);
                              }}
                            >
                              Let in again
                            </MenuItem>
                          ) : (
                            row.id !== session.person.id && (
                              <MenuItem icon="lock" danger onPick={ask("disable")}>
                                Shut out
                              </MenuItem>
                            )
                          )}
                        </>
                      );
                    }}
                  </Popover>
                ),
              },
            ]}
          />
        )}
      </Show>
      {asked && <Ask asked={asked} onClose={() => setAsked(null)} reload={logins.reload} onPassword={setPassword} />}
      {password && (
        <Dialog title={`Password of ${password.email}`} onClose={() => setPassword(null)}>
          <div className="stack">
            <p>Give it to them now: it is shown this once. They should change it under «Account».</p>
            <Field label="Password" value={password.password} readOnly onFocus={(event) => event.target.select()} />
            <footer>
              <Button look="primary" icon="copy" onClick={() => void copy(password.password, "Password copied")}>
                Copy
              </Button>
            </footer>
          </div>
        </Dialog>
      )}
    </>
  );
}

interface AskProps {
  asked: Asked;
  onClose: () => void;
  reload: () => void;
  onPassword: (made: { email: string; password: string }) => void;
}

function Ask({ asked, onClose, reload, onPassword }: AskProps) {
  if (asked.what === "add") {
    const add = async (form: FormData) => {
      const email = String(form.get("email")).trim();
      const made = await api.post<{ password: string }>("/admin/logins", { email, name: form.get("name"), role: form.get("role") });
      onPassword({ email, password: made.password });
      reload();
    };
    return (
      <FormDialog title="Add somebody" action="Add" onClose={onClose} submit={add}>
        <Field label="E-mail" name="email" type="email" required autoFocus hint="The address that their sources know them by: it decides what they may read." />
        <Field label="Name" name="name" maxLength={300} />
        <RoleField />
      </FormDialog>
    );
  }
  const { login } = asked;
  const path = `/admin/logins/${encodeURIComponent(login.id)}`;
  if (asked.what === "role") {
    const change = async (form: FormData) => {
      await api.patch(path, { role: form.get("role") });
      reload();
    };
    return (
      <FormDialog title={`Role of ${login.name || login.email}`} action="Change" onClose={onClose} submit={change}>
        <RoleField role={login.role} />
      </FormDialog>
    );
  }
  if (asked.what === "reset") {
    const reset = async () => {
      const made = await api.post<{ password: string }>(`${path}/reset`);
      onPassword({ email: login.email, password: made.password });
    };
    return (
      <FormDialog title={`New password for ${login.email}?`} action="Make one" onClose={onClose} submit={reset}>
        <p>Their old one stops working, and they are signed out everywhere.</p>
      </FormDialog>
    );
  }
  const disable = async () => {
    await api.patch(path, { disabled: true });
    reload();
    toast(`${login.email} is shut out.`);
  };
  return (
    <FormDialog title={`Shut out ${login.email}?`} action="Shut out" danger onClose={onClose} submit={disable}>
      <p>They are signed out at once, and their tokens stop working. Their conversations stay.</p>
    </FormDialog>
  );
}

function RoleField({ role = "agent" }: { role?: Role }) {
  return (
    <Select label="Role" name="role" defaultValue={role} hint="Agents ask. Knowledge owners also see what is asked in vain. Admins also run Deskhand.">
      {ROLES.map(([value, label]) => (
        <option key={value} value={value}>
          {label}
        </option>
      ))}
    </Select>
  );
}
