import { type KeyboardEvent, type ReactNode, memo, useEffect, useRef, useState } from "react";
import type { Source } from "../lib/types";
import { Button, IconButton } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { Problem } from "../ui/States";
import { copy } from "../ui/Toasts";
import { AnswerView, Working } from "./AnswerView";
import type { Turn, useThread } from "./thread";

interface Props {
  thread: ReturnType<typeof useThread>;
  before: ReactNode;
  onAgain: (at: number, text: string) => void;
  onSource: (source: Source, turn: Turn) => void;
  onHandOver: (turn: Turn, question: string) => void;
  onDraft: () => void;
}

/** Questions and answers, scrolled along while one is written unless somebody scrolled away. */
export function Turns({ thread, before, onAgain, onSource, onHandOver, onDraft }: Props) {
  const { turns, busy, step, error, reconnecting } = thread;
  const { box, away, down } = useFollowing(turns);
  const last = turns.at(-1);
  const waiting = busy && (last?.role === "user" || (last !== undefined && !last.text && !last.answer));
  const unanswered = !busy && !reconnecting && !error && last?.role === "user" && thread.conversation !== null;
  const retry = () => onAgain(turns.length - (last?.role === "user" ? 1 : 2), turns.findLast((turn) => turn.role === "user")!.text);
  return (
    <div className="thread-frame">
      <div className="thread" ref={box} tabIndex={0} role="log" aria-label="Questions and answers" aria-busy={busy}>
        <div className="thread-inner">
          {before}
          {turns.map((turn, at) => {
            if (turn.role === "user") return <Question key={at} at={at} text={turn.text} disabled={busy} onAgain={onAgain} />;
            if (!turn.text && !turn.answer) return null;
            const question = turns[at - 1];
            return (
              <Answer
                key={at}
                at={at}
                turn={turn}
                question={question?.text ?? ""}
                writing={busy && at === turns.length - 1}
                {...{ onAgain, onSource, onHandOver, onDraft }}
              />
            );
          })}
          {waiting && <Working step={step} />}
          {error && <Problem text={error} retry={last ? retry : undefined} />}
          {unanswered && <Problem text="This question has no answer yet: it was interrupted, or didn’t get through." retry={retry} />}
        </div>
      </div>
      {away && (
        <button type="button" className="to-end" onClick={down} aria-label="To the latest" title="To the latest">
          <Icon name="send" size={16} />
        </button>
      )}
    </div>
  );
}

interface AnswerProps extends Pick<Props, "onAgain" | "onSource" | "onHandOver" | "onDraft"> {
  at: number;
  turn: Turn;
  question: string;
  writing: boolean;
}

const Answer = memo(function Answer({ at, turn, question, writing, onAgain, onSource, onHandOver, onDraft }: AnswerProps) {
  return (
    <AnswerView
      turn={turn}
      question={question}
      writing={writing}
      onSource={onSource}
      onRetry={() => onAgain(at - 1, question)}
      onDraft={onDraft}
      onHandOver={() => onHandOver(turn, question)}
    />
  );
});

const Question = memo(function Question({ at, text, disabled, onAgain }: { at: number; text: string; disabled: boolean; onAgain: Props["onAgain"] }) {
  const [editing, setEditing] = useState<string | null>(null);
  const send = () => {
    if (!editing?.trim()) return;
    onAgain(at, editing.trim());
    setEditing(null);
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      event.preventDefault();
      setEditing(null);
    }
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      send();
    }
  };
  if (editing !== null) {
    return (
      <div className="question editing">
        <textarea aria-label="Edit the question" autoFocus rows={3} value={editing} onChange={(e) => setEditing(e.target.value)} onKeyDown={key} />
        <div className="question-edit">
          <Button small look="quiet" onClick={() => setEditing(null)}>
            Cancel
          </Button>
          <Button small look="primary" onClick={send}>
            Ask again
          </Button>
        </div>
      </div>
    );
  }
  return (
    <div className="question" role="group" aria-label="Question">
      <p className="question-text">{text}</p>
      <div className="question-actions">
        <IconButton icon="copy" label="Copy the question" onClick={() => void copy(text)} />
        <IconButton icon="edit" label="Edit the question" disabled={disabled} onClick={() => setEditing(text)} />
      </div>
    </div>
  );
});

const NEAR = 80;

function useFollowing(turns: Turn[]) {
  const box = useRef<HTMLDivElement>(null);
  const [away, setAway] = useState(false);
  const following = useRef(true);
  const count = useRef(0);
  useEffect(() => {
    const element = box.current!;
    const scrolled = () => {
      following.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      setAway(!following.current);
    };
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => element.removeEventListener("scroll", scrolled);
  }, []);
  useEffect(() => {
    const element = box.current!;
    // A new question is always shown, wherever one was reading.
    if (following.current || turns.length > count.current) element.scrollTop = element.scrollHeight;
    count.current = turns.length;
  }, [turns]);
  const down = () => {
    box.current!.scrollTo({ top: box.current!.scrollHeight, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  return { box, away, down };
}
