import { type KeyboardEvent, useCallback, useEffect, useRef, useState } from "react";
import { api, query, said } from "../lib/api";
import { useSettled } from "../lib/load";
import { Link, go } from "../lib/route";
import type { ConversationRow, Page } from "../lib/types";
import { period } from "../lib/words";
import { FormDialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Icon } from "../ui/Icon";
import { MenuItem, Popover } from "../ui/Popover";
import { Loading, Problem } from "../ui/States";
import { ShareDialog } from "./ShareDialog";

const CHANGED = "deskhand:conversations";

/** A conversation was made, renamed, shared or deleted. */
export function conversationsChanged(): void {
  dispatchEvent(new Event(CHANGED));
}

/** Pages of the list, as far as somebody has scrolled; after a change the first ones are read anew. */
function useConversations(search: string) {
  const [items, setItems] = useState<ConversationRow[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState("");
  const newest = useRef(0);
  const read = useCallback(
    async (before: string | null) => {
      const mine = ++newest.current;
      setLoading(true);
      try {
        const page = await api.get<Page<ConversationRow>>(`/conversations${query({ query: search, before })}`);
        if (mine !== newest.current) return;
        setItems((old) => (before ? [...old, ...page.items] : page.items));
        setNext(page.next);
        setError("");
      } catch (problem) {
        if (mine === newest.current) setError(said(problem));
      } finally {
        if (mine === newest.current) setLoading(false);
      }
    },
    [search],
  );
  useEffect(() => {
    const again = () => void read(null);
    again();
    addEventListener(CHANGED, again);
    return () => removeEventListener(CHANGED, again);
  }, [read]);
  return { items, loading, error, more: next === null ? null : () => void read(next), reload: () => void read(null) };
}

type Asked = { what: "rename" | "delete" | "share"; row: ConversationRow };

export function Conversations({ current }: { current: string | null }) {
  const [search, setSearch] = useState("");
  const settled = useSettled(search.trim(), 250);
  const { items, loading, error, more, reload } = useConversations(settled);
  const [asked, setAsked] = useState<Asked | null>(null);
  const end = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (!more || loading) return;
    const seen = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) more();
    });
    seen.observe(end.current!);
    return () => seen.disconnect();
  }, [more, loading]);
  const key = (event: KeyboardEvent<HTMLElement>) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const links = [...event.currentTarget.querySelectorAll<HTMLElement>("input, .conversation a")];
    const at = links.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    event.preventDefault();
    links[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
  };
  return (
    <nav className="conversations" aria-label="Conversations" onKeyDown={key}>
      <label className="search">
        <Icon name="search" size={16} />
        <input id="search-conversations" type="search" aria-label="Search conversations" placeholder="Search" value={search} onChange={(e) => setSearch(e.target.value)} />
      </label>
      <Problem text={error} retry={reload} />
      {!loading && !error && items.length === 0 && (
        <p className="hint pad">{settled ? "No conversation has these words." : "Your conversations will be listed here."}</p>
      )}
      <ul className="conversation-list">
        {items.map((row, at) => {
          const heading = period(row.updated_at);
          const first = at === 0 || period(items[at - 1]!.updated_at) !== heading;
          return (
            <li key={row.id}>
              {first && <p className="period">{heading}</p>}
              <Row row={row} current={row.id === current} onAsk={(what) => setAsked({ what, row })} />
            </li>
          );
        })}
        <li ref={end}>{loading && <Loading />}</li>
      </ul>
      {asked && <Ask asked={asked} current={current} onClose={() => setAsked(null)} />}
    </nav>
  );
}

function Row({ row, current, onAsk }: { row: ConversationRow; current: boolean; onAsk: (what: Asked["what"]) => void }) {
  const title = row.title || "Untitled";
  const customer = row.customer?.name;
  return (
    <div className={current ? "conversation current" : "conversation"}>
      <Link href={`/c/${row.id}`} aria-current={current ? "page" : undefined}>
        <span className="conversation-title">{title}</span>
        {(customer || row.shared) && (
          <span className="conversation-facts">
            {customer}
            {row.shared && (
              <>
                <Icon name="share" size={12} /> shared
              </>
            )}
          </span>
        )}
      </Link>
      <Popover icon="more" name={`Actions for ${title}`} role="menu" align="end">
        {(close) => {
          const ask = (what: Asked["what"]) => () => {
            close();
            onAsk(what);
          };
          return (
            <>
              <MenuItem icon="edit" onPick={ask("rename")}>
                Rename
              </MenuItem>
              <MenuItem icon="share" onPick={ask("share")}>
                Share
              </MenuItem>
              <MenuItem icon="trash" danger onPick={ask("delete")}>
                Delete
              </MenuItem>
            </>
          );
        }}
      </Popover>
    </div>
  );
}

function Ask({ asked: { what, row }, current, onClose }: { asked: Asked; current: string | null; onClose: () => void }) {
  if (what === "share") return <ShareDialog id={row.id} shared={row.shared} onClose={onClose} />;
  if (what === "rename") {
    const rename = async (form: FormData) => {
      await api.patch(`/conversations/${row.id}`, { title: String(form.get("title")).trim() });
      conversationsChanged();
    };
    return (
      <FormDialog title="Rename the conversation" action="Rename" onClose={onClose} submit={rename}>
        <Field label="Title" name="title" defaultValue={row.title} required maxLength={200} autoFocus />
      </FormDialog>
    );
  }
  const remove = async () => {
    await api.remove(`/conversations/${row.id}`);
    conversationsChanged();
    if (row.id === current) go("/");
  };
  return (
    <FormDialog title="Delete the conversation?" action="Delete" danger onClose={onClose} submit={remove}>
      <p>“{row.title}” and its answers are deleted, and its link, if it was shared, stops working. This can’t be undone.</p>
    </FormDialog>
  );
}
