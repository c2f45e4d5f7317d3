import { useCallback, useEffect, useState } from "react";
import { api, query } from "../lib/api";
import { useAction } from "../lib/load";
import type { Id } from "../lib/types";
import { moment } from "../lib/words";
import { Button } from "../ui/Button";
import { Empty, Loading, Problem } from "../ui/States";
import { Table } from "../ui/Table";

interface Entry {
  id: Id;
  at: string;
  actor: string;
  action: string;
  object: string;
  detail: Record<string, unknown>;
}

/** Who did what, the latest first. */
export function Audit() {
  const [items, setItems] = useState<Entry[] | null>(null);
  const [next, setNext] = useState<Id | null>(null);
  const { busy, error, run } = useAction();
  const read = useCallback(
    (before: Id | null) =>
      void run(async () => {
        const page = await api.get<{ items: Entry[]; next: Id | null }>(`/admin/audit${query({ before })}`);
        setItems((old) => (before === null ? page.items : [...(old ?? []), ...page.items]));
        setNext(page.next);
      }),
    [run],
  );
  useEffect(() => read(null), [read]);
  return (
    <>
      <p className="lead">Who did what. Texts of customers are not in it.</p>
      <Problem text={error} retry={() => read(next)} />
      {items === null && !error && <Loading />}
      {items?.length === 0 && <Empty icon="history" title="Nothing was noted yet" />}
      {items && items.length > 0 && (
        <Table
          name="Audit log"
          rows={items}
          id={(row) => String(row.id)}
          columns={[
            { name: "When", show: (row) => <time dateTime={row.at}>{moment(row.at)}</time> },
            { name: "Who", show: (row) => <span className="breakable">{row.actor}</span> },
            { name: "What", show: (row) => row.action },
            { name: "Of", show: (row) => <span className="breakable">{row.object}</span> },
            { name: "More", show: (row) => <Detail of={row.detail} /> },
          ]}
        />
      )}
      {next !== null && (
        <p className="centred">
          <Button busy={busy} onClick={() => read(next)}>
            Earlier
          </Button>
        </p>
      )}
    </>
  );
}

function Detail({ of }: { of: Record<string, unknown> }) {
  const text = Object.entries(of)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(", ");
  return <span className="breakable hint">{text}</span>;
}
