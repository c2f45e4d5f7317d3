import { useEffect, useRef } from "react";
import { query } from "../lib/api";
import { useLoad } from "../lib/load";
import type { Message, Source } from "../lib/types";
import { day } from "../lib/words";
import { Icon } from "../ui/Icon";
import { Problem } from "../ui/States";
import { Kind } from "./Citation";
import { SourceVerdict } from "./Feedback";
import { FROM, Markdown, Original, TO } from "./Markdown";
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
        <Original url={source.url} />
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
          {now?.before && (
            <div className="around">
              <Markdown text={now.before} />
            </div>
          )}
          <Quoted source={source.text ? source : (now ?? source)} />
          {now?.after && (
            <div className="around">
              <Markdown text={now.after} />
            </div>
          )}
        </div>
      )}
    </Panel>
  );
}

/** The passage with its quotes marked, scrolled to the first. */
function Quoted({ source }: { source: Source }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    box.current!.querySelector("mark")?.scrollIntoView({ block: "center" });
  }, [source]);
  return (
    <div ref={box}>
      <Markdown text={marked(source)} />
    </div>
  );
}

/** What makes a line a heading, an item or a row: a mark begins after it, or it would no longer be one. */
const PREFIX = /^(?:\s|[>#|*+-]|\d+[.)])*/;

function marked(source: Source): string {
  // The offsets count code points; a string here counts UTF-16 units. What stands for a mark is nobody's text.
  const characters = [...source.text].map((one) => (one === FROM || one === TO ? " " : one));
  let text = "";
  let at = 0;
  for (const quote of [...source.quotes].sort((a, b) => a.start - b.start)) {
    const start = Math.max(at, quote.start);
    if (quote.end <= start) continue;
    text += characters.slice(at, start).join("");
    const lines = characters.slice(start, quote.end).join("").split("\n");
    text += lines.map((line, n) => (n || text === "" || text.endsWith("\n") ? line.replace(PREFIX, (prefix) => prefix + FROM) : FROM + line) + TO).join("\n");
    at = quote.end;
  }
  return text + characters.slice(at).join("");
}
