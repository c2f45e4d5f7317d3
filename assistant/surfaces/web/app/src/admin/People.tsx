import { useState } from "react";
import { api } from "../lib/api";
import { useLoad } from "../lib/load";
import { count } from "../lib/words";
import { Button } from "../ui/Button";
import { FormDialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Icon } from "../ui/Icon";
import { Badge, Empty, Show } from "../ui/States";
import { Table } from "../ui/Table";

interface AccountRow {
  source: string;
  account: string;
  taken_for: string | null;
  fixed: boolean;
  groups: number;
}

const SHOWN = 200;

/** Accounts of the sources, and whose they are taken to be: that decides what a person may read. */
export function People() {
  const people = useLoad<AccountRow[]>("/admin/people");
  const [search, setSearch] = useState("");
  const [changing, setChanging] = useState<AccountRow | null>(null);
  const words = search.trim().toLowerCase();
  return (
    <>
      <p className="lead">Accounts in your sources and whom each is taken for. A person may read what their accounts may.</p>
      <label className="search page-search">
        <Icon name="search" size={16} />
        <input type="search" aria-label="Search accounts" placeholder="Account or person" value={search} onChange={(event) => setSearch(event.target.value)} />
      </label>
      <Show of={people}>
        {(all) => {
          const rows = all.filter((row) => `${row.account} ${row.taken_for ?? ""} ${row.source}`.toLowerCase().includes(words));
          if (!rows.length) return <Empty icon="person" title={words ? "No account has these words" : "No accounts yet: they come with a source’s permissions"} />;
          return (
            <>
              <Table
                name="Accounts"
                rows={rows.slice(0, SHOWN)}
                id={(row) => `${row.source} ${row.account}`}
                columns={[
                  { name: "Source", show: (row) => row.source },
                  { name: "Account", show: (row) => <span className="breakable">{row.account}</span> },
                  { name: "Taken for", show: (row) => <TakenFor row={row} /> },
                  { name: "Groups", show: (row) => row.groups, right: true },
                  {
                    name: "",
                    show: (row) => (
                      <Button small look="quiet" aria-label={`Change whom ${row.account} is taken for`} onClick={() => setChanging(row)}>
                        Change
                      </Button>
                    ),
                  },
                ]}
              />
              {rows.length > SHOWN && <p className="hint">{count(rows.length - SHOWN, "more account")}; search to find them.</p>}
            </>
          );
        }}
      </Show>
      {changing && (
        <FormDialog
          title={`Whose account is ${changing.account}?`}
          action="Set"
          onClose={() => setChanging(null)}
          submit={async (form) => {
            const taken_for = String(form.get("taken_for")).trim() || null;
            await api.put("/admin/people", { source: changing.source, account: changing.account, taken_for });
            people.reload();
          }}
        >
          <Field
            label="E-mail of the person"
            name="taken_for"
            type="email"
            defaultValue={changing.taken_for ?? ""}
            autoFocus
            hint="Empty: believe the source again, from its next permission sync on. It holds at once."
          />
        </FormDialog>
      )}
    </>
  );
}

function TakenFor({ row }: { row: AccountRow }) {
  if (!row.taken_for) return <Badge tone="off">nobody</Badge>;
  return (
    <span className="breakable">
      {row.taken_for} {row.fixed && <Badge>set by an admin</Badge>}
    </span>
  );
}
