import type { Packet as Found } from "../lib/types";
import { day } from "../lib/words";
import { Button } from "../ui/Button";
import { copy } from "../ui/Toasts";
import { Kind } from "./Citation";
import { Lines } from "./HistoryPanel";
import { Outside } from "./Markdown";

/** What was found for a question that was handed over, as far as the reader may read it. */
export function Packet({ found }: { found: Found }) {
  const { customer, nearest, history, experts } = found;
  return (
    <div className="packet">
      <blockquote>{found.question}</blockquote>
      <p className="panel-facts">
        {customer && <span>Customer: {customer.name}</span>}
        {found.queue && <span>Where its like was solved: {found.queue}</span>}
      </p>
      {experts.length > 0 && (
        <section>
          <h3>Who has solved its like</h3>
          <ul className="facts">
            {experts.map((expert) => (
              <li key={expert.name}>
                <strong>{expert.name}</strong> {expert.why}
              </li>
            ))}
          </ul>
        </section>
      )}
      <section>
        <h3>Nearest sources</h3>
        {nearest.length === 0 && <p className="hint">None that you may read.</p>}
        <ul className="facts">
          {nearest.map((source) => (
            <li key={`${source.title} ${source.url}`}>
              <Kind source={source} /> <Outside url={source.url}>{source.title}</Outside>
            </li>
          ))}
        </ul>
      </section>
      {history.map((ticket) => (
        <section key={ticket.ticket}>
          <h3>
            {ticket.title} <span className="hint">{[ticket.status, day(ticket.created_at)].filter(Boolean).join(", ")}</span>
          </h3>
          <Lines lines={ticket.lines} />
        </section>
      ))}
      <p>
        <Button small icon="copy" onClick={() => void copy(found.text)}>
          Copy as text
        </Button>
      </p>
    </div>
  );
}
