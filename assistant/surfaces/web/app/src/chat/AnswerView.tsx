import { memo, useCallback } from "react";
import type { Source } from "../lib/types";
import { capital } from "../lib/words";
import { Button, IconButton } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { copy } from "../ui/Toasts";
import { Marker, SourceCard } from "./Citation";
import { Markdown } from "./Markdown";
import { Thumbs } from "./Feedback";
import type { Turn } from "./thread";

interface Props {
  turn: Turn;
  /** As it was asked. */
  question: string;
  writing: boolean;
  /** Where nothing can be done with it: a conversation that a colleague shared. */
  readOnly?: boolean;
  onSource: (source: Source, turn: Turn) => void;
  onRetry?: () => void;
  onDraft?: () => void;
  onHandOver?: (turn: Turn) => void;
}

/** What is done meanwhile, told to a screen reader as well. */
export function Working({ step }: { step: string }) {
  return (
    <p className="working" role="status">
      <span className="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {capital(step || "searching")} …
    </p>
  );
}

const SURE: Record<string, string> = {
  "very sure": "Very sure: the sources say so",
  sure: "Sure that the sources say so",
  likely: "Likely, but read the sources first",
  unsure: "Unsure: read the sources first",
};
const MARKERS = /\s*\[\d+\]/g;

export const AnswerView = memo(function AnswerView({ turn, question, writing, readOnly, onSource, onRetry, onDraft, onHandOver }: Props) {
  const { answer, sources } = turn;
  const open = useCallback((source: Source) => onSource(source, turn), [onSource, turn]);
  const cite = useCallback(
    (marker: number, key: string) => <Marker key={key} marker={marker} source={sources.find((s) => s.marker === marker)} onOpen={open} />,
    [sources, open],
  );
  const declined = answer?.declined ?? false;
  return (
    <article className={declined ? "answer declined" : "answer"} aria-label="Answer" aria-busy={writing}>
      {declined && (
        <p className="declined-title">
          <Icon name="warn" /> The sources don’t have it
        </p>
      )}
      <Markdown text={turn.text} cite={cite} />
      {answer?.stopped && <p className="hint">Stopped before it was finished.</p>}
      {answer && !declined && <Basis turn={turn} question={question} onOpen={open} />}
      {answer && declined && <Nearest turn={turn} question={question} onOpen={open} />}
      {answer && declined && onHandOver && (
        <Button look="primary" icon="handover" onClick={() => onHandOver(turn)}>
          Hand over to a person
        </Button>
      )}
      {answer && (
        <div className="actions" role="group" aria-label="This answer">
          {!readOnly && <Thumbs answer={answer} />}
          <IconButton icon="copy" label="Copy the answer" onClick={() => void copy(turn.text.replace(MARKERS, ""))} />
          {onRetry && <IconButton icon="retry" label="Ask again" onClick={onRetry} />}
          {onDraft && (
            <Button small look="quiet" icon="reply" onClick={onDraft}>
              Reply draft
            </Button>
          )}
          {onHandOver && !declined && (
            <Button small look="quiet" icon="handover" onClick={() => onHandOver(turn)}>
              Hand over
            </Button>
          )}
        </div>
      )}
    </article>
  );
});

interface BasisProps {
  turn: Turn;
  question: string;
  onOpen: (source: Source) => void;
}

/** How sure it is, in words, and what it rests on. */
function Basis({ turn, question, onOpen }: BasisProps) {
  const answer = turn.answer!;
  const level = { "very sure": 3, sure: 2 }[answer.sure] ?? 1;
  return (
    <section className="basis" aria-label="What the answer rests on">
      <p className="sure">
        {answer.sure && (
          <span className={`meter level-${level}`} aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
        )}
        {SURE[answer.sure] ?? capital(answer.sure)}
        <Searched as={turn.answer!.question} asked={question} />
      </p>
      {answer.sources.length > 0 && (
        <ul className="source-cards" aria-label="Sources">
          {answer.sources.map((source) => (
            <li key={source.marker}>
              <SourceCard source={source} onOpen={onOpen} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Nearest({ turn, question, onOpen }: BasisProps) {
  const { nearest } = turn.answer!;
  return (
    <section className="basis" aria-label="Nearest sources">
      <p className="sure">
        {nearest.length ? "Nearest sources; none of them answers it" : "Nothing near it was found"}
        <Searched as={turn.answer!.question} asked={question} />
      </p>
      <ul className="source-cards">
        {nearest.map((source) => (
          <li key={`${source.document_id} ${source.chunk_id}`}>
            <SourceCard source={{ ...source, marker: null }} onOpen={onOpen} />
          </li>
        ))}
      </ul>
    </section>
  );
}

/** A follow-up is searched as a question of its own: the reader should see which. */
function Searched({ as, asked }: { as: string; asked: string }) {
  return as && as !== asked ? <span className="searched">Searched: “{as}”</span> : null;
}
