import { memo } from "react";
import type { Source } from "../lib/types";
import { EVIDENCE, day } from "../lib/words";
import { Icon, type IconName } from "../ui/Icon";

const ICONS: Record<string, IconName> = { document: "document", ticket: "ticket", history: "history" };

/** What kind of evidence a source is: a sign, a colour, and where there is room the word. */
export function Kind({ source, long }: { source: Pick<Source, "evidence"> & Partial<Source>; long?: boolean }) {
  const words = EVIDENCE[source.evidence];
  return (
    <span className={`kind ${source.evidence}`} title={words.long}>
      <Icon name={ICONS[source.evidence] ?? "document"} size={15} />
      {long ? words.long : words.word}
    </span>
  );
}

export const Marker = memo(function Marker({ source, marker, onOpen }: { source?: Source; marker: number; onOpen: (source: Source) => void }) {
  if (!source) return <sup className="marker none">{marker}</sup>;
  return (
    <button
      type="button"
      className={`marker ${source.evidence}`}
      title={source.title}
      aria-label={`Source ${marker}: ${source.title}, ${EVIDENCE[source.evidence].word.toLowerCase()}`}
      onClick={() => onOpen(source)}
    >
      {marker}
    </button>
  );
});

/** A source on one line. */
export function SourceCard({ source, onOpen }: { source: Source; onOpen: (source: Source) => void }) {
  const heading = source.headings.at(-1);
  const facts = [heading !== source.title ? heading : "", source.outcome, source.page ? `page ${source.page}` : "", day(source.created_at)].filter(Boolean);
  return (
    <button type="button" className={`source-card ${source.evidence}`} onClick={() => onOpen(source)}>
      {source.marker !== null && source.marker !== undefined && <span className={`marker ${source.evidence}`}>{source.marker}</span>}
      <span className="source-title">{source.title || "Untitled"}</span>
      <span className="source-facts">
        <Kind source={source} />
        {source.audience === "internal" && (
          <span className="internal">
            <Icon name="lock" size={13} /> internal
          </span>
        )}
        {facts.map((fact) => (
          <span key={fact}>{fact}</span>
        ))}
      </span>
    </button>
  );
}
