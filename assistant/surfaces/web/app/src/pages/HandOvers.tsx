import { useState } from "react";
import { Side } from "../chat/Side";
import { Packet } from "../chat/Packet";
import { api } from "../lib/api";
import { useAction, useLoad } from "../lib/load";
import { Link } from "../lib/route";
import type { HandOver, Packet as Found } from "../lib/types";
import { ago, capital } from "../lib/words";
import { Button } from "../ui/Button";
import { FormDialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { Icon } from "../ui/Icon";
import { Bar, Shell } from "../ui/Shell";
import { Badge, Empty, Problem, Show } from "../ui/States";

const TONES = { open: "bad", taken: "busy", delivered: "good", closed: "off" } as const;

/** Questions that wait for a person: one's own, and everybody's for who works on them. */
export function HandOvers({ id }: { id: string | null }) {
  return (
    <Shell wide side={<Side />}>
      {id ? <One key={id} id={id} /> : <All />}
    </Shell>
  );
}

function All() {
  const list = useLoad<HandOver[]>("/escalations", 30);
  return (
    <>
      <Bar title="Hand-overs" />
      <div className="page">
        <p className="lead">Questions that the sources couldn’t answer, or that need a person.</p>
        <Show of={list}>
          {(items) =>
            items.length === 0 ? (
              <Empty icon="check" title="Nothing waits for a person" />
            ) : (
              <ul className="cards">
                {items.map((item) => (
                  <li key={item.id}>
                    <Link href={`/handovers/${item.id}`} className="card-link">
                      <span className="card-title">{item.question}</span>
                      <span className="card-facts">
                        <Badge tone={TONES[item.state]}>{item.state}</Badge>
                        <span>{item.asked_by}</span>
                        <span>{ago(item.created_at)}</span>
                        {item.changed_by && <span>with {item.changed_by}</span>}
                      </span>
                    </Link>
                  </li>
                ))}
              </ul>
            )
          }
        </Show>
      </div>
    </>
  );
}

function One({ id }: { id: string }) {
  const found = useLoad<Found>(`/escalations/${encodeURIComponent(id)}`);
  const { busy, error, run } = useAction();
  const [asking, setAsking] = useState<"deliver" | "close" | null>(null);
  const act = async (what: string, body: unknown = {}) => {
    await api.post(`/escalations/${id}/${what}`, body);
    found.reload();
  };
  return (
    <>
      <Bar title="Hand-over">
        <Link href="/handovers" className="button quiet">
          <Icon name="back" /> All
        </Link>
      </Bar>
      <div className="page narrow">
        {found.missing ? (
          <Empty icon="search" title="There is no such hand-over, or you may not see it" />
        ) : (
          <Show of={found}>
            {(item) => (
              <>
                <p className="card-facts">
                  <Badge tone={TONES[item.state]}>{item.state}</Badge>
                  <span>asked by {item.asked_by}</span>
                  <span>{ago(item.created_at)}</span>
                  {item.changed_by && <span>{capital(item.state)} by {item.changed_by}</span>}
                </p>
                <h2 className="visually-hidden">What goes with it</h2>
                <Packet found={item} />
                {item.note && <p className="notice">{item.note}</p>}
                <Problem text={error} />
                <p className="panel-actions">
                  {item.state === "open" && (
                    <Button look="primary" icon="person" busy={busy} onClick={() => void run(() => act("take"))}>
                      Take it
                    </Button>
                  )}
                  {item.ticket && item.state !== "delivered" && item.state !== "closed" && (
                    <Button icon="ticket" onClick={() => setAsking("deliver")}>
                      Write it on the ticket
                    </Button>
                  )}
                  {item.state !== "closed" && (
                    <Button icon="check" onClick={() => setAsking("close")}>
                      Close
                    </Button>
                  )}
                </p>
              </>
            )}
          </Show>
        )}
      </div>
      {asking === "close" && (
        <FormDialog title="Close it?" action="Close it" onClose={() => setAsking(null)} submit={(form) => act("close", { note: form.get("note") })}>
          <TextField label="What came of it (optional)" name="note" rows={3} maxLength={4000} autoFocus />
        </FormDialog>
      )}
      {asking === "deliver" && <Deliver id={id} onClose={() => setAsking(null)} deliver={() => act("deliver")} />}
    </>
  );
}

/** Shows the note as it would be written, before it is. */
function Deliver({ id, onClose, deliver }: { id: string; onClose: () => void; deliver: () => Promise<unknown> }) {
  const note = useLoad<{ source: string; url: string; text: string }>(`/escalations/${encodeURIComponent(id)}/note`);
  return (
    <FormDialog title="Write it on the ticket?" action="Write the note" onClose={onClose} submit={deliver}>
      <p>An internal note is added to the ticket, once, for colleagues to read. It names only sources that all who read the ticket may read.</p>
      <Show of={note}>{({ text }) => <pre className="note" tabIndex={0}>{text}</pre>}</Show>
    </FormDialog>
  );
}
