import { useState } from "react";
import { Conversations } from "../chat/Conversations";
import { Packet } from "../chat/Packet";
import { api } from "../lib/api";
import { useAction, useLoad } from "../lib/load";
import { Link } from "../lib/route";
import type { HandOver, Page } from "../lib/types";
import { ago, capital } from "../lib/words";
import { Button } from "../ui/Button";
import { FormDialog } from "../ui/Dialog";
import { Icon } from "../ui/Icon";
import { Bar, Shell } from "../ui/Shell";
import { Badge, Empty, Problem, Show } from "../ui/States";

const TONES = { open: "bad", taken: "busy", delivered: "good", closed: "off" } as const;

/** Questions that wait for a person: one's own, and everybody's for who works on them. */
export function HandOvers({ id }: { id: string | null }) {
  return (
    <Shell
      wide
      side={
        <>
          <Link href="/" className="button new">
            <Icon name="plus" /> New conversation
          </Link>
          <Conversations current={null} />
        </>
      }
    >
      {id ? <One key={id} id={id} /> : <All />}
    </Shell>
  );
}

function All() {
  const list = useLoad<Page<HandOver>>("/escalations", 30);
  return (
    <>
      <Bar title="Hand-overs" />
      <div className="page">
        <p className="lead">Questions that the sources couldn’t answer, or that need a person.</p>
        <Show of={list}>
          {({ items }) =>
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
  const found = useLoad<HandOver>(`/escalations/${encodeURIComponent(id)}`);
  const { busy, error, run } = useAction();
  const [asking, setAsking] = useState(false);
  const act = (what: string) => () =>
    void run(async () => {
      await api.post(`/escalations/${id}/${what}`);
      found.reload();
    });
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
                <Problem text={error} />
                <p className="panel-actions">
                  {item.state === "open" && (
                    <Button look="primary" icon="person" busy={busy} onClick={act("take")}>
                      Take it
                    </Button>
                  )}
                  {item.ticket && item.state !== "delivered" && item.state !== "closed" && (
                    <Button icon="ticket" onClick={() => setAsking(true)}>
                      Write it on the ticket
                    </Button>
                  )}
                  {item.state !== "closed" && (
                    <Button icon="check" busy={busy} onClick={act("close")}>
                      Close
                    </Button>
                  )}
                </p>
              </>
            )}
          </Show>
        )}
      </div>
      {asking && (
        <FormDialog
          title="Write it on the ticket?"
          action="Write the note"
          onClose={() => setAsking(false)}
          submit={async () => {
            await api.post(`/escalations/${id}/deliver`);
            found.reload();
          }}
        >
          <p>An internal note is added to the ticket, once, for colleagues to read. It names only sources that all who read the ticket may read.</p>
        </FormDialog>
      )}
    </>
  );
}
