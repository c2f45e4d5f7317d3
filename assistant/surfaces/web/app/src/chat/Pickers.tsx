import { type FormEvent, type KeyboardEvent, useEffect, useId, useState } from "react";
import { ApiError, api, query } from "../lib/api";
import { useAction, useLoad, useSettled } from "../lib/load";
import type { CustomerRow, Named, Page, Ticket } from "../lib/types";
import { count } from "../lib/words";
import { Button, IconButton } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { Popover } from "../ui/Popover";
import { Problem } from "../ui/States";

interface CustomerProps {
  customer: Named | null;
  /** The customer that a question was taken to be about, where nobody chose one. */
  guessed: Named | null;
  onPick: (customer: Named | null) => void;
  onShow: (customer: Named) => void;
}

/** Whom it is about: chosen here, or guessed from the question, which is shown so that it can be put right. */
export function CustomerPicker({ customer, guessed, onPick, onShow }: CustomerProps) {
  const shown = customer ?? guessed;
  return (
    <span className={shown ? "chip set" : "chip"}>
      <Popover
        className="chip-button"
        name="Choose a customer"
        label={
          <>
            <Icon name="person" size={16} />
            {shown && <span className="visually-hidden">Customer:</span>}
            <span className="chip-text">{shown ? shown.name : "Customer"}</span>
            {!customer && guessed && <span className="chip-note">guessed</span>}
          </>
        }
      >
        {(close) => (
          <CustomerSearch
            onPick={(picked) => {
              onPick(picked);
              close();
            }}
          />
        )}
      </Popover>
      {shown && <IconButton icon="history" label={`History of ${shown.name}`} onClick={() => onShow(shown)} />}
      {customer && <IconButton icon="close" label="No customer" onClick={() => onPick(null)} />}
    </span>
  );
}

/** A combobox: the arrows move in the list while the focus stays in the field. */
function CustomerSearch({ onPick }: { onPick: (customer: Named) => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const settled = useSettled(text.trim());
  const found = useLoad<Page<CustomerRow>>(`/customers${query({ query: settled })}`);
  const id = useId();
  const items = found.data?.items ?? [];
  const current = settled === text.trim() && found.data !== null;
  /** Enter was pressed before the list was that of what is typed. */
  const [hasty, setHasty] = useState(false);
  useEffect(() => setAt(0), [settled]);
  useEffect(() => {
    if (!hasty || !current) return;
    setHasty(false);
    if (items[0]) onPick(items[0]);
  }, [hasty, current]);
  useEffect(() => {
    document.getElementById(`${id}-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [id, at]);
  const key = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (items.length) setAt((n) => (n + (event.key === "ArrowDown" ? 1 : items.length - 1)) % items.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (!current) setHasty(true);
      else if (items[at]) onPick(items[at]);
    }
  };
  return (
    <div className="picker">
      <input
        type="search"
        role="combobox"
        aria-label="Customer's name, id or domain"
        placeholder="Name, id or domain"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={items[at] ? `${id}-${at}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={key}
      />
      <Problem text={found.error} retry={found.reload} />
      <div id={`${id}-list`} role="listbox" aria-label="Customers" className="options">
        {items.map((item, n) => (
          // The keyboard acts in the field above, as this pattern has it.
          <div key={item.id} id={`${id}-${n}`} role="option" aria-selected={n === at} className="option" onMouseMove={() => setAt(n)} onClick={() => onPick(item)}>
            <span>{item.name}</span>
            <span className="option-facts">{item.open ? `${item.open} open of ${count(item.tickets, "ticket")}` : count(item.tickets, "ticket")}</span>
          </div>
        ))}
      </div>
      <p className="hint" role="status">
        {found.data && !items.length ? "No customer of that name has a ticket that you may read." : ""}
      </p>
    </div>
  );
}

export async function findTicket(reference: string): Promise<Ticket | null> {
  try {
    return await api.get<Ticket>(`/tickets${query({ reference: reference.trim() })}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

interface TicketProps {
  ticket: Ticket | null;
  onPick: (ticket: Ticket | null) => void;
  onShow: (ticket: Ticket) => void;
}

/** The ticket in front of the agent: its id or its address. */
export function TicketPicker({ ticket, onPick, onShow }: TicketProps) {
  return (
    <span className={ticket ? "chip set" : "chip"}>
      <Popover
        className="chip-button"
        name="Choose a ticket"
        label={
          <>
            <Icon name="ticket" size={16} />
            {ticket && <span className="visually-hidden">Ticket</span>}
            <span className="chip-text">{ticket ? `#${ticket.external_id}` : "Ticket"}</span>
          </>
        }
      >
        {(close) => (
          <TicketForm
            action="Use this ticket"
            onFound={(found) => {
              onPick(found);
              close();
            }}
          />
        )}
      </Popover>
      {ticket && <IconButton icon="document" label={`Show ticket ${ticket.external_id}`} onClick={() => onShow(ticket)} />}
      {ticket && <IconButton icon="close" label="No ticket" onClick={() => onPick(null)} />}
    </span>
  );
}

export function TicketForm({ action, onFound }: { action: string; onFound: (ticket: Ticket) => void }) {
  const [text, setText] = useState("");
  const [missing, setMissing] = useState(false);
  const { busy, error, run } = useAction();
  const find = async (event: FormEvent) => {
    event.preventDefault();
    if (busy || !text.trim()) return;
    await run(async () => {
      const found = await findTicket(text);
      setMissing(!found);
      if (found) onFound(found);
    });
  };
  return (
    <form className="picker" onSubmit={find}>
      <input
        aria-label="Ticket's id or address"
        placeholder="Id or address, such as 4325"
        autoComplete="off"
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setMissing(false);
        }}
      />
      <Problem text={missing ? "No ticket by that id or address is here, or you may not read it." : error} />
      <Button type="submit" look="primary" busy={busy} small>
        {action}
      </Button>
    </form>
  );
}
