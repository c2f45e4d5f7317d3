import { DefaultChatTransport, type UIMessage } from "ai";
import { useEffect, useRef, useState } from "react";
import { api, request, said } from "../lib/api";
import type { Message, Ticket } from "../lib/types";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { Problem } from "../ui/States";
import { copy } from "../ui/Toasts";
import { Working } from "./AnswerView";
import { TicketForm } from "./Pickers";

const MARKERS = /\s*\[\d+\]/g;

/** A reply to copy, of public material alone; nothing is sent. */
export function DraftDialog({ ticket, onClose }: { ticket: Ticket | null; onClose: () => void }) {
  const [about, setAbout] = useState(ticket);
  return (
    <Dialog title={about ? `Reply draft for #${about.external_id}` : "Reply draft"} onClose={onClose} wide>
      {about ? (
        <Draft ticket={about} />
      ) : (
        <>
          <p className="pad-below">Which ticket is it a reply to?</p>
          <TicketForm action="Write a draft" onFound={setAbout} />
        </>
      )}
    </Dialog>
  );
}

function Draft({ ticket }: { ticket: Ticket }) {
  const [text, setText] = useState("");
  const [step, setStep] = useState("reading the ticket");
  const [answer, setAnswer] = useState<Message | null>(null);
  const [error, setError] = useState("");
  const [done, setDone] = useState(false);
  const [turn, setTurn] = useState(0);
  const edited = useRef(false);
  useEffect(() => {
    const aborted = new AbortController();
    edited.current = false;
    setText("");
    setError("");
    setDone(false);
    const write = async () => {
      const transport = new DefaultChatTransport<UIMessage>({ fetch: (url, init) => request(url as RequestInfo, init), api: "/api/v1/drafts" });
      const stream = await transport.sendMessages({
        chatId: "draft",
        messages: [],
        trigger: "submit-message",
        messageId: undefined,
        abortSignal: aborted.signal,
        body: { ticket: ticket.external_id },
      });
      for await (const part of stream as unknown as AsyncIterable<{ type: string; delta?: string; data?: unknown; errorText?: string }>) {
        if (part.type === "text-delta") setText((old) => old + part.delta);
        if (part.type === "data-status") setStep((part.data as { step: string }).step);
        if (part.type === "data-answer") {
          const whole = part.data as Message;
          setAnswer(whole);
          if (!edited.current) setText(whole.text.replace(MARKERS, ""));
        }
        if (part.type === "error") setError(part.errorText ?? "");
      }
    };
    write()
      .catch((problem: unknown) => {
        if (!aborted.signal.aborted) setError(said(problem));
      })
      .finally(() => {
        if (!aborted.signal.aborted) setDone(true);
      });
    return () => aborted.abort();
  }, [ticket, turn]);
  const take = async () => {
    const copied = await copy(text, "Draft copied. Nothing was sent.");
    if (copied && answer && !answer.declined) {
      await api.post(`/messages/${answer.id}/feedback`, { verdict: "accepted", comment: "" }).catch(() => {});
    }
  };
  return (
    <div className="stack">
      <p className="hint">{ticket.title}. Made of public material alone: no internal notes, and nothing about other customers. Nothing is sent.</p>
      {!done && <Working step={step} />}
      <TextField
        label="Draft"
        rows={12}
        value={text}
        readOnly={!done}
        onChange={(event) => {
          edited.current = true;
          setText(event.target.value);
        }}
      />
      {answer?.declined && <p className="hint">The sources don’t have an answer that may be told to a customer.</p>}
      {done && <Problem text={error} retry={() => setTurn((n) => n + 1)} />}
      <footer>
        <Button look="primary" icon="copy" disabled={!done || !text} onClick={() => void take()}>
          Copy the draft
        </Button>
      </footer>
    </div>
  );
}
