import { useCallback, useEffect, useRef, useState } from "react";
import { useLatest } from "../lib/load";
import { useSession } from "../lib/session";
import type { About, Message, Named, Source, Ticket } from "../lib/types";
import { IconButton } from "../ui/Button";
import { Bar } from "../ui/Shell";
import { Empty, Loading, Problem } from "../ui/States";
import { toast } from "../ui/Toasts";
import { useSuggestions } from "./ChatPage";
import { type Attached, Composer } from "./Composer";
import { DraftDialog } from "./DraftDialog";
import { HandOverDialog } from "./HandOverDialog";
import { HistoryPanel, TicketPanel } from "./HistoryPanel";
import { CustomerPicker, TicketPicker, findTicket } from "./Pickers";
import { ShareDialog } from "./ShareDialog";
import { SourcePanel } from "./SourcePanel";
import { Turns } from "./Turns";
import { type Context, type Turn, useThread } from "./thread";

type Beside = { source: Source; answer: Message | null } | { customer: Named } | { ticket: Ticket };
type Asked = "draft" | "share" | { message: string; question: string };

interface Props {
  chatKey: string;
  id: string | null;
  onBegun: (id: string) => void;
}

/** One conversation: its turns, the field below them, and what is opened beside them. */
export function Chat({ chatKey, id, onBegun }: Props) {
  const { session } = useSession();
  const [title, setTitle] = useState("");
  const [about, setAbout] = useState<About | null>(null);
  const [customer, setCustomer] = useState<Named | null>(null);
  const [ticket, setTicket] = useState<Ticket | null>(null);
  const [onlyPublic, setOnlyPublic] = useState(false);
  const [beside, setBeside] = useState<Beside | null>(null);
  const [asked, setAsked] = useState<Asked | null>(null);
  const thread = useThread(chatKey, id, (told) => {
    setTitle(told.title);
    setAbout(told.about);
    onBegun(told.id);
  });
  const { turns, busy, ask, stop, conversation, trouble } = thread;
  const suggestions = useSuggestions(id === null);
  useContextOf(conversation, { setTitle, setAbout, setTicket });
  useStopKey(busy, stop);

  const context: Context = { customer: customer?.id ?? null, ticket: ticket?.external_id ?? null, public: onlyPublic };
  const latest = useLatest({ context, ask });
  const again = useCallback((at: number, text: string) => latest.current.ask(text, latest.current.context, at), [latest]);
  const openSource = useCallback((source: Source, turn: Turn) => setBeside({ source, answer: turn.answer }), []);
  const handOver = useCallback((turn: Turn, question: string) => setAsked({ message: turn.id, question }), []);
  const draft = useCallback(() => setAsked("draft"), []);
  const useReference = async (reference: string) => {
    const found = await findTicket(reference).catch(() => null);
    if (found) {
      setTicket(found);
      toast(`Ticket #${found.external_id} is the context now.`);
    }
    return !!found;
  };
  const send = (text: string, files: Attached[] = []) =>
    ask(text, { ...context, files: files.length ? files.map((file) => file.id) : undefined });
  const guessed = about?.customer ?? ticket?.customer ?? null;
  const close = () => setBeside(null);

  if (trouble.missing) {
    return (
      <>
        <Bar title="Not here" />
        <Empty icon="search" title="This conversation isn’t here">
          <p className="hint">It was deleted, or it is somebody else’s. A colleague can share theirs by a link.</p>
        </Empty>
      </>
    );
  }
  const empty = id === null && turns.length === 0;
  return (
    <div className={beside ? "chat beside" : "chat"}>
      <section className="thread-column" aria-label="Conversation">
        <Bar title={title || (empty ? "New conversation" : "Conversation")}>
          {thread.reconnecting && (
            <span className="reconnecting" role="status">
              <span className="spinner" aria-hidden="true" /> Connection lost; trying again …
            </span>
          )}
          {(conversation || about) && <IconButton icon="share" label="Share" onClick={() => setAsked("share")} />}
        </Bar>
        <Turns
          thread={thread}
          onAgain={again}
          onSource={openSource}
          onHandOver={handOver}
          onDraft={draft}
          before={
            empty ? (
              <Welcome name={session.person.name} suggestions={suggestions} onAsk={(text) => send(text)} />
            ) : id !== null && !conversation && !trouble.text && !turns.length ? (
              <Loading />
            ) : (
              <Problem text={trouble.text} retry={() => void thread.load()} />
            )
          }
        />
        <div className="composer-place">
          <Composer draftKey={id ?? "new"} busy={busy} longest={session.features.question_max_chars} files={session.features.max_file_mb} onAsk={send} onStop={() => void stop()} onPasted={useReference}>
            <CustomerPicker customer={customer} guessed={guessed} onPick={setCustomer} onShow={(shown) => setBeside({ customer: shown })} />
            <TicketPicker ticket={ticket} onPick={setTicket} onShow={(shown) => setBeside({ ticket: shown })} />
            <label className={onlyPublic ? "chip set toggle" : "chip toggle"} title="Nothing internal: what may be told to a customer">
              <input type="checkbox" checked={onlyPublic} onChange={(event) => setOnlyPublic(event.target.checked)} />
              Public only
            </label>
          </Composer>
          <p className="fine">Every sentence has its source; open it before you pass it on.</p>
        </div>
      </section>
      {beside && "source" in beside && <SourcePanel {...beside} onClose={close} />}
      {beside && "customer" in beside && (
        <HistoryPanel key={beside.customer.id} customer={beside.customer} onTicket={(reference) => void useReference(reference)} onClose={close} />
      )}
      {beside && "ticket" in beside && <TicketPanel ticket={beside.ticket} onClose={close} />}
      {asked === "draft" && <DraftDialog ticket={ticket} onClose={() => setAsked(null)} />}
      {asked === "share" && <ShareDialog id={id!} shared={!!conversation?.shared} onClose={() => setAsked(null)} />}
      {asked !== null && typeof asked === "object" && <HandOverDialog {...asked} onClose={() => setAsked(null)} />}
    </div>
  );
}

interface Setters {
  setTitle: (title: string) => void;
  setAbout: (about: About | null) => void;
  setTicket: (ticket: Ticket | null) => void;
}

/** Take up what an earlier conversation was about, once, when it was loaded. */
function useContextOf(conversation: ReturnType<typeof useThread>["conversation"], set: Setters): void {
  const done = useRef(false);
  useEffect(() => {
    if (!conversation || done.current) return;
    done.current = true;
    set.setTitle(conversation.title);
    // As a guess, so that a question which names somebody else is about them.
    set.setAbout(conversation.customer && { customer: conversation.customer, how: "as before", others: [] });
    if (conversation.ticket) void findTicket(conversation.ticket).then(set.setTicket, () => {});
  }, [conversation, set]);
}

function useStopKey(busy: boolean, stop: () => Promise<unknown>): void {
  const latest = useLatest(stop);
  useEffect(() => {
    if (!busy) return;
    const key = (event: KeyboardEvent) => {
      // Escape closes a panel or a dialog first.
      if (event.key === "Escape" && !document.querySelector("dialog[open],:popover-open,.panel,.shell.open")) void latest.current();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [busy, latest]);
}

function Welcome({ name, suggestions, onAsk }: { name: string; suggestions: string[]; onAsk: (text: string) => void }) {
  const first = name.includes("@") ? "" : `, ${name.split(" ")[0]}`;
  return (
    <div className="welcome">
      <h2>What do you need to know{first}?</h2>
      <p>Answers come from your documents, past tickets and the customer’s own history, each sentence with its source.</p>
      {suggestions.length > 0 && (
        <ul className="suggestions" aria-label="Questions to begin with">
          {suggestions.slice(0, 4).map((text) => (
            <li key={text}>
              <button type="button" onClick={() => onAsk(text)}>
                {text}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
