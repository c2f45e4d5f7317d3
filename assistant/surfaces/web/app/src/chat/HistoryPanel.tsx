import { useLoad } from "../lib/load";
import type { CustomerHistory, Named, PastTicket, Ticket } from "../lib/types";
import { capital, count, day } from "../lib/words";
import { Badge, Empty, Show } from "../ui/States";
import { Original } from "./Markdown";
import { Panel } from "./Panel";

const STEPS: Record<string, string> = { problem: "Problem", tried: "Tried", solution: "Helped", reply: "Reply" };
const ENDED = ["solved", "closed", "resolved", "done"];

/** What is open for a customer, what comes again, what was tried and what helped. */
export function HistoryPanel({ customer, onTicket, onClose }: { customer: Named; onTicket: (ticket: string) => void; onClose: () => void }) {
  const history = useLoad<CustomerHistory>(`/customers/${encodeURIComponent(customer.id)}/history`);
  return (
    <Panel title={customer.name} label="Customer" onClose={onClose}>
      <Show of={history}>{(found) => <History found={found} onTicket={onTicket} />}</Show>
    </Panel>
  );
}

function History({ found, onTicket }: { found: CustomerHistory; onTicket: (ticket: string) => void }) {
  const { open } = found;
  const rest = found.timeline.filter((ticket) => !ticket.is_open);
  return (
    <>
      <section>
        <h3>Open now{open.length > 0 && ` (${found.open_tickets})`}</h3>
        {open.length === 0 && <p className="hint">Nothing is open for them that you may read.</p>}
        {open.map((ticket) => (
          <Past key={ticket.ticket} ticket={ticket} open onTicket={onTicket} />
        ))}
      </section>
      {found.recurring.length > 0 && (
        <section>
          <h3>Comes again</h3>
          <ul className="facts">
            {found.recurring.map((item) => (
              <li key={item.what}>
                <strong>{item.what}</strong> {count(item.tickets, "ticket")}
                {item.latest && `, the last ${day(item.latest)}`}
              </li>
            ))}
          </ul>
        </section>
      )}
      {found.versions.length > 0 && (
        <section>
          <h3>Versions named</h3>
          <ul className="facts">
            {found.versions.map((item) => (
              <li key={`${item.product} ${item.version}`}>
                <strong>
                  {item.product} {item.version}
                </strong>{" "}
                {day(item.at)}
              </li>
            ))}
          </ul>
        </section>
      )}
      <section>
        <h3>What was tried</h3>
        {rest.length === 0 && <Empty icon="history" title="No earlier tickets" />}
        {rest.map((ticket) => (
          <Past key={ticket.ticket} ticket={ticket} onTicket={onTicket} />
        ))}
      </section>
    </>
  );
}

function Past({ ticket, open, onTicket }: { ticket: PastTicket; open?: boolean; onTicket: (ticket: string) => void }) {
  return (
    <details className="past" open={open}>
      <summary>
        <span className="past-title">{ticket.title}</span>
        <span className="past-facts">
          <Badge tone={ENDED.includes(ticket.status.toLowerCase()) ? "good" : "plain"}>{ticket.status}</Badge>
          <span>{day(ticket.created_at)}</span>
          <span>#{ticket.ticket}</span>
        </span>
      </summary>
      <Lines lines={ticket.lines} />
      <p className="past-actions">
        <button type="button" className="link" onClick={() => onTicket(ticket.ticket)}>
          Ask about this ticket
        </button>
        <Original url={ticket.url} />
      </p>
    </details>
  );
}

export function Lines({ lines }: { lines: PastTicket["lines"] }) {
  if (!lines.length) return <p className="hint pad">Nothing more was noted.</p>;
  return (
    <ol className="lines">
      {lines.map((line, at) => (
        <li key={at} className={line.kind}>
          <span className="line-step">
            {STEPS[line.kind] ?? capital(line.kind)}
            <time dateTime={line.at ?? undefined}>{day(line.at)}</time>
          </span>
          {line.text}
        </li>
      ))}
    </ol>
  );
}

/** One ticket at a glance. */
export function TicketPanel({ ticket, onClose }: { ticket: Ticket; onClose: () => void }) {
  return (
    <Panel title={ticket.title} label={`Ticket ${ticket.external_id}`} onClose={onClose}>
      <p className="panel-facts">
        <Badge tone={ENDED.includes(ticket.status.toLowerCase()) ? "good" : "plain"}>{ticket.status}</Badge>
        {ticket.customer && <span>{ticket.customer.name}</span>}
      </p>
      <div className="panel-actions">
        <Original url={ticket.url} />
      </div>
      <Lines lines={ticket.lines} />
    </Panel>
  );
}
