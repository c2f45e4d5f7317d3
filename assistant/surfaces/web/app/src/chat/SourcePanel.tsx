import { type ReactNode, useEffect, useRef } from "react";
import { query } from "../lib/api";
import { useLoad } from "../lib/load";
import type { Message, Source } from "../lib/types";
import { day } from "../lib/words";
import { Icon } from "../ui/Icon";
import { Problem } from "../ui/States";
import { Kind } from "./Citation";
import { SourceVerdict } from "./Feedback";
import { Outside } from "./Markdown";
import { Panel } from "./Panel";

/** A source at the quoted words, with what stands around them. */
export function SourcePanel({ source, answer, onClose }: { source: Source; answer: Message | null; onClose: () => void }) {
  const live = useLoad<Source>(`/sources/${source.document_id}${query({ chunk: source.chunk_id })}`);
  const cited = answer?.sources.some((s) => s.marker === source.marker) ?? false;
  const now = live.data;
  const gone = live.missing || now?.deleted;
  return (
    <Panel title={source.title || "Untitled"} label="Source" onClose={onClose}>
      <p className="panel-facts">
        <Kind source={source} long />
        {source.outcome && <span>{source.outcome}</span>}
        {source.created_at && <span>{day(source.created_at)}</span>}
        {source.page && <span>page {source.page}</span>}
        {source.audience === "internal" && (
          <span className="internal">
            <Icon name="lock" size={13} /> internal: not for customers
          </span>
        )}
      </p>
      {source.headings.length > 0 && <p className="crumbs">{source.headings.join(" › ")}</p>}
      <div className="panel-actions">
        <Outside url={source.url}>
          <Icon name="link" size={16} /> Open the original
        </Outside>
        {answer && cited && <SourceVerdict key={`${answer.id}-${source.marker}`} answer={answer} source={source} />}
      </div>
      {gone ? (
        <div className="notice">
          <Icon name="warn" /> This source is no longer there, or you may no longer read it. The answer was made when it was.
        </div>
      ) : (
        <Problem text={live.error} retry={live.reload} />
      )}
      {!gone && (
        <div className="passage">
          {now?.before && <p className="around">{now.before}</p>}
          <Quoted source={source.text ? source : (now ?? source)} />
          {now?.after && <p className="around">{now.after}</p>}
        </div>
      )}
    </Panel>
  );
}

/** The passage with its quotes marked, scrolled to the first. */
function Quoted({ source }: { source: Source }) {
  const first = useRef<HTMLElement>(null);
  useEffect(() => {
    first.current?.scrollIntoView({ block: "center" });
  }, [source]);
  // The offsets count code points; a string here counts UTF-16 units.
  const characters = [...source.text];
  const pieces: ReactNode[] = [];
  let at = 0;
  for (const quote of [...source.quotes].sort((a, b) => a.start - b.start)) {
    const start = Math.max(at, quote.start);
    if (quote.end <= start) continue;
    pieces.push(characters.slice(at, start).join(""));
    pieces.push(
      <mark key={start} ref={pieces.length === 1 ? first : undefined}>
        {characters.slice(start, quote.end).join("")}
      </mark>,
    );
    at = quote.end;
  }
  pieces.push(characters.slice(at).join(""));
  return <p className="quoted">{pieces}</p>;
}
