import { type ClipboardEvent, type DragEvent, type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { query, request, said } from "../lib/api";
import type { Id } from "../lib/types";
import { number } from "../lib/words";
import { IconButton } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { toast } from "../ui/Toasts";

const FILES = 5;

export interface Attached {
  id: Id;
  name: string;
}

interface Props {
  /** Under which an unsent text is kept over a reload. */
  draftKey: string;
  busy: boolean;
  /** Characters of a question at most. */
  longest: number;
  /** MB of a file at most; 0: none can be added. */
  files: number;
  onAsk: (text: string, files: Attached[]) => void;
  onStop: () => void;
  /** A single pasted word that may be a ticket; true when it was one and became the context. */
  onPasted: (text: string) => Promise<boolean>;
  children: ReactNode;
}

/** Where a question is written: Enter asks, Shift+Enter begins a new line. */
export function Composer({ draftKey, busy, longest, files, onAsk, onStop, onPasted, children }: Props) {
  const kept = `deskhand-draft-${draftKey}`;
  const [text, setText] = useState(() => sessionStorage.getItem(kept) ?? "");
  const [attached, setAttached] = useState<Attached[]>([]);
  const [reading, setReading] = useState(false);
  const [over, setOver] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const tooLong = text.length > longest;
  const ready = text.trim() !== "" && !tooLong && !reading;

  useEffect(() => {
    if (text) sessionStorage.setItem(kept, text);
    else sessionStorage.removeItem(kept);
  }, [kept, text]);
  useEffect(() => {
    // A finger would get its keyboard over half the page.
    if (matchMedia("(pointer: fine)").matches) area.current?.focus();
  }, []);

  const send = () => {
    if (!ready || busy) return;
    onAsk(text.trim(), attached);
    setText("");
    setAttached([]);
  };
  const key = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };
  const pasted = async (event: ClipboardEvent) => {
    const value = event.clipboardData.getData("text").trim();
    if (files && event.clipboardData.files.length) return add([...event.clipboardData.files]);
    if (text || !/^https?:\/\/\S+$/.test(value)) return;
    event.preventDefault();
    if (!(await onPasted(value))) setText(value);
  };
  const add = async (chosen: File[]) => {
    const fit = chosen.filter((file) => file.size <= files * 2 ** 20).slice(0, FILES - attached.length);
    if (fit.length < chosen.length) toast(`At most ${FILES} files of ${files} MB each go with a question.`);
    setReading(true);
    try {
      for (const file of fit) {
        const sent = await upload(file);
        setAttached((old) => [...old, sent]);
      }
    } catch (error) {
      toast(said(error));
    } finally {
      setReading(false);
    }
  };
  const drag = (event: DragEvent, inside: boolean) => {
    if (!files || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(inside);
  };
  return (
    // No form: the ticket's form is inside it, and forms can't be nested.
    <div
      role="group"
      aria-label="Ask"
      className={over ? "composer over" : "composer"}
      onDragOver={(event) => drag(event, true)}
      onDragLeave={(event) => drag(event, false)}
      onDrop={(event) => {
        drag(event, false);
        if (files) void add([...event.dataTransfer.files]);
      }}
    >
      <textarea
        ref={area}
        id="question"
        rows={1}
        aria-label="Your question"
        aria-invalid={tooLong}
        aria-describedby="question-length"
        placeholder="Ask the sources …"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={key}
        onPaste={(event) => void pasted(event)}
      />
      {(attached.length > 0 || reading) && (
        <ul className="attached" aria-label="Files that go with this question">
          {attached.map((file, at) => (
            <li key={at} className="chip set">
              <span className="chip-text">{file.name}</span>
              <IconButton icon="close" label={`Without ${file.name}`} onClick={() => setAttached(attached.filter((_, n) => n !== at))} />
            </li>
          ))}
          {reading && <li className="chip">Reading …</li>}
        </ul>
      )}
      <p id="question-length" className={tooLong ? "length over" : "length"} role="status">
        {text.length > longest * 0.9 && `${number(text.length)} of ${number(longest)} characters`}
        {tooLong && ". Shorten it to ask."}
      </p>
      <div className="composer-bar">
        {children}
        {files > 0 && (
          <>
            <IconButton icon="clip" label="Add a file to this question" onClick={() => input.current?.click()} />
            <input ref={input} type="file" hidden multiple onChange={(event) => void add([...(event.target.files ?? [])])} />
          </>
        )}
        <span className="grow" />
        {busy ? (
          <button type="button" className="send" aria-label="Stop" title="Stop (Escape)" onClick={onStop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="button" className="send" aria-label="Ask" title="Ask (Enter)" aria-disabled={!ready} onClick={send}>
            <Icon name="send" />
          </button>
        )}
      </div>
    </div>
  );
}

async function upload(file: File): Promise<Attached> {
  const sent = await request(`/api/v1/files${query({ name: file.name })}`, { method: "POST", body: file });
  return (await sent.json()) as Attached;
}
