import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, type UIMessage } from "ai";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { ApiError, api, request, said, sessionEnded } from "../lib/api";
import { useLatest } from "../lib/load";
import { watched } from "../lib/stream";
import type { About, Conversation, Id, Message, Source } from "../lib/types";

type Parts = {
  conversation: { id: string; title: string; question: Id; about: About | null };
  status: { step: string };
  sources: Source[];
  answer: Message;
};

export type DeskMessage = UIMessage<{ stored: boolean }, Parts>;

/** What stands around a question. */
export interface Context {
  customer: Id | null;
  ticket: string | null;
  public: boolean;
  files?: Id[];
}

/** A question or an answer as it is shown, whether it was loaded or is just being written. */
export interface Turn {
  id: string;
  role: "user" | "assistant";
  text: string;
  sources: Source[];
  answer: Message | null;
}

const RESUME_AFTER = [500, 1000, 2000, 4000, 8000, 15_000];
/** How long a stopped answer may take to say so before the connection is cut, in ms. */
const STOP_WITHIN = 4000;

export function stored(message: Message): DeskMessage {
  const parts: DeskMessage["parts"] = [{ type: "text", text: message.text }];
  if (message.role === "assistant") parts.push({ type: "data-answer", data: message });
  return { id: String(message.id), role: message.role, metadata: { stored: true }, parts };
}

export function turn(message: DeskMessage): Turn {
  const shown: Turn = { id: message.id, role: message.role === "user" ? "user" : "assistant", text: "", sources: [], answer: null };
  for (const part of message.parts) {
    if (part.type === "text") shown.text += part.text;
    else if (part.type === "data-sources") shown.sources = part.data;
    else if (part.type === "data-answer") shown.answer = part.data;
  }
  if (shown.answer) {
    shown.text = shown.answer.text;
    if (shown.answer.sources.length) shown.sources = shown.answer.sources;
  }
  return shown;
}

function lost(error: Error | undefined): boolean {
  return error instanceof ApiError ? [0, 401, 502, 503, 504].includes(error.status) : error instanceof TypeError;
}

/**
 * One conversation: its turns, and asking, stopping, editing. An answer goes on in the server whatever becomes of
 * this page; after a reload or a lost network it is taken up again from its beginning.
 */
export function useThread(key: string, opened: string | null, told: (conversation: Parts["conversation"]) => void) {
  const [conversation, setConversation] = useState<Conversation | null>(null);
  const [trouble, setTrouble] = useState({ text: "", missing: false });
  const id = useRef(opened);
  const over = useRef(false);
  const stopping = useRef(false);
  /** Under which id the server has each question that was asked here. */
  const numbers = useRef(new Map<string, Id>());
  const tell = useLatest(told);
  const [step, setStep] = useState("");
  const [tries, setTries] = useState(0);
  /** Somebody stopped it and the server took too long to say so: it is not to be taken up again. */
  const [halted, setHalted] = useState(false);

  const transport = useMemo(
    () =>
      new DefaultChatTransport<DeskMessage>({
        api: "/api/v1/chat",
        fetch: async (input, init) => {
          const response = await request(input as RequestInfo, init);
          over.current = response.status === 204;
          return over.current ? response : watched(response);
        },
        prepareSendMessagesRequest: ({ messages, body }) => ({
          body: { ...body, conversation: id.current, text: turn(messages.at(-1)!).text },
        }),
        prepareReconnectToStreamRequest: () => ({ api: `/api/v1/chat/${id.current}/stream` }),
      }),
    [],
  );

  const chat = useChat<DeskMessage>({
    id: key,
    transport,
    experimental_throttle: 40,
    onData: (told) => {
      const part = told as Extract<DeskMessage["parts"][number], { data: unknown }> | { type: "data-status"; data: Parts["status"] };
      if (part.type === "data-status") setStep(part.data.step);
      if (part.type === "data-conversation") {
        id.current = part.data.id;
        const question = now.current.messages.findLast((message) => message.role === "user");
        if (question) numbers.current.set(question.id, part.data.question);
        if (stopping.current) void api.post(`/chat/${id.current}/stop`).catch(() => {});
        tell.current(part.data);
      }
    },
  });
  const { messages, setMessages, sendMessage, resumeStream, status, error, clearError } = chat;
  const busy = status === "submitted" || status === "streaming";
  const now = useLatest({ messages, busy, error });

  const resume = useCallback(async () => {
    over.current = false;
    await resumeStream();
    return !over.current;
  }, [resumeStream]);

  /** Show what the server has; it is the truth about a conversation. */
  const load = useCallback(async () => {
    try {
      const found = await api.get<Conversation>(`/conversations/${encodeURIComponent(id.current!)}`);
      setConversation(found);
      setTrouble({ text: "", missing: false });
      if (now.current.busy) return;
      clearError();
      const known = found.messages.map(stored);
      const last = now.current.messages.at(-1);
      setMessages(unsent(last, known) ? [...known, last!] : known);
      if (found.running) await resume();
    } catch (problem) {
      setTrouble({ text: said(problem), missing: problem instanceof ApiError && problem.status === 404 });
    }
  }, [setMessages, clearError, resume, now]);
  useEffect(() => {
    if (opened) void load();
  }, []);

  const broken = !!id.current && !busy && !halted && (lost(error) || (!error && unfinished(messages)));
  useEffect(() => {
    if (!broken) return;
    const again = async () => {
      setTries((n) => n + 1);
      if (!(await resume())) await load();
    };
    const timer = setTimeout(again, RESUME_AFTER[Math.min(tries, RESUME_AFTER.length - 1)]);
    addEventListener("online", again);
    return () => {
      clearTimeout(timer);
      removeEventListener("online", again);
    };
  }, [broken, tries, resume, load]);
  useEffect(() => {
    // What went wrong may have been that the session ended; once somebody signed in again, the server knows more.
    if (!error || broken || !id.current) return;
    const again = () => void load();
    void sessionEnded();
    addEventListener("online", again);
    return () => removeEventListener("online", again);
  }, [error, broken, load]);
  useEffect(() => {
    if (status === "streaming") setTries(0);
    if (status === "ready") setStep("");
  }, [status]);
  useEffect(() => () => void chat.stop(), [key]);

  const turns = useMemo(() => messages.map(turn), [messages]);

  /** Ask, at the end or in place of the question at `at` and all that follows it. */
  const ask = useCallback(
    (text: string, context: Context, at?: number) => {
      let replaces: Id | null = null;
      stopping.current = false;
      setHalted(false);
      if (at !== undefined) {
        const question = now.current.messages[at]!;
        replaces = question.metadata?.stored ? question.id : (numbers.current.get(question.id) ?? null);
        setMessages(now.current.messages.slice(0, at));
      }
      clearError();
      setStep("");
      void sendMessage({ text }, { body: { ...context, replaces } });
    },
    [sendMessage, setMessages, clearError, now],
  );

  /** The answer ends with the sentence it is at; before the conversation has an id that is said once it has one. */
  const stop = useCallback(async () => {
    stopping.current = true;
    setTimeout(() => {
      if (!stopping.current || !now.current.busy) return;
      setHalted(true);
      void chat.stop();
    }, STOP_WITHIN);
    if (id.current) await api.post(`/chat/${id.current}/stop`).catch(() => chat.stop());
  }, [chat.stop, now]);

  return { turns, busy, step, ask, stop, load, conversation, trouble, reconnecting: broken, error: broken ? "" : (error?.message ?? "") };
}

/** A question that was asked here and did not reach the server: it is not to be lost. */
function unsent(last: DeskMessage | undefined, known: DeskMessage[]): boolean {
  if (last?.role !== "user" || last.metadata?.stored) return false;
  const question = known.findLast((message) => message.role === "user");
  return !question || turn(question).text !== turn(last).text;
}

/** An answer that was begun here and whose stream ended without its last word. */
function unfinished(messages: DeskMessage[]): boolean {
  const last = messages.at(-1);
  return last?.role === "assistant" && !last.metadata?.stored && !last.parts.some((part) => part.type === "data-answer");
}
