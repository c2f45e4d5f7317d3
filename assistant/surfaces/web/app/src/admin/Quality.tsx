import { Outside } from "../chat/Markdown";
import { useLoad } from "../lib/load";
import { capital, count, day, number } from "../lib/words";
import { Plot } from "../ui/Plot";
import { Empty, Show } from "../ui/States";
import { Tiles } from "./Tiles";

interface Evaluation {
  id: number;
  at: string;
  kind: string;
  dataset: string;
  system: string;
  metrics: Record<string, number>;
}

interface Gap {
  question: string;
  asked: number;
  declined: number;
  askers: number;
  latest: string;
  documents: { title: string; url: string; source: string }[];
}

interface Stale {
  document_id: number;
  title: string;
  url: string;
  source: string;
  reason: string;
  people: number;
  comments: string[];
  at: string;
}

interface QualityView {
  evaluations: Evaluation[];
  gaps: Gap[];
  stale: Stale[];
  feedback: Record<string, number>;
}

const VERDICTS: [string, string][] = [
  ["up", "Good answers"],
  ["down", "Bad answers"],
  ["accepted", "Drafts used"],
  ["source_outdated", "Called outdated"],
  ["source_wrong", "Called wrong"],
  ["solved", "Tickets solved after"],
];
/** Shown as a line where an evaluation was repeated. */
const MEASURES = ["score", "token_f1", "gold", "ndcg@10", "recall@10", "ndcg_at_10", "recall_at_10"];

/** What the sources lack, what is said of answers, and how evaluations went. */
export function Quality() {
  const quality = useLoad<QualityView>("/admin/quality");
  return (
    <Show of={quality}>
      {(found) => (
        <>
          <p className="lead">The last 90 days, without who asked.</p>
          <Tiles items={VERDICTS.map(([name, title]) => ({ name: title, value: number(found.feedback[name] ?? 0) }))} />
          <Evaluations all={found.evaluations} />
          <section className="block">
            <header>
              <h2>What is asked in vain</h2>
            </header>
            {found.gaps.length === 0 && <Empty icon="check" title="Nothing was declined or called bad" />}
            <ul className="cards">
              {found.gaps.map((gap) => (
                <li key={gap.question} className="card">
                  <p className="card-title">{gap.question}</p>
                  <p className="card-facts">
                    <span>asked {count(gap.asked, "time")}</span>
                    <span>{number(gap.declined)} declined</span>
                    <span>by {count(gap.askers, "person", "people")}</span>
                    <span>last {day(gap.latest)}</span>
                  </p>
                  {gap.documents.length > 0 && (
                    <p className="hint">
                      Nearest:{" "}
                      {gap.documents.map((document, at) => (
                        <span key={document.url + document.title}>
                          {at > 0 && ", "}
                          <Outside url={document.url}>{document.title}</Outside>
                        </span>
                      ))}
                    </p>
                  )}
                </li>
              ))}
            </ul>
          </section>
          <section className="block">
            <header>
              <h2>Documents to look at</h2>
            </header>
            {found.stale.length === 0 && <Empty icon="document" title="No document was called outdated or wrong" />}
            <ul className="cards">
              {found.stale.map((document) => (
                <li key={`${document.document_id} ${document.reason}`} className="card">
                  <p className="card-title">
                    <Outside url={document.url}>{document.title}</Outside>
                  </p>
                  <p className="card-facts">
                    <span>{document.reason}</span>
                    <span>{document.source}</span>
                    <span>{day(document.at)}</span>
                  </p>
                  {document.comments.map((comment) => (
                    <blockquote key={comment}>{comment}</blockquote>
                  ))}
                </li>
              ))}
            </ul>
          </section>
        </>
      )}
    </Show>
  );
}

function Evaluations({ all }: { all: Evaluation[] }) {
  const groups = Map.groupBy(all, (one) => `${one.kind}: ${one.dataset}`);
  const plots = [...groups].flatMap(([title, some]) => {
    const names = Object.keys(some[0]!.metrics);
    const measure = MEASURES.find((name) => names.includes(name)) ?? names[0];
    if (!measure) return [];
    const series = [...Map.groupBy(some, (one) => one.system)].map(([name, mine]) => ({
      name,
      points: mine
        .filter((one) => measure in one.metrics)
        .map((one): [number, number] => [Date.parse(one.at), one.metrics[measure]!])
        .sort((a, b) => a[0] - b[0]),
    }));
    return [<Plot key={title} title={`${capital(title)} (${measure})`} series={series.slice(0, 4)} x={(at) => day(new Date(at).toISOString())} />];
  });
  return (
    <section className="block">
      <header>
        <h2>Evaluations over time</h2>
      </header>
      {plots.length ? (
        <div className="plots">{plots}</div>
      ) : (
        <Empty icon="chart" title="No evaluation was kept yet">
          <p className="hint">
            Measure on the command line: <code>deskhand eval answers</code>
          </p>
        </Empty>
      )}
    </section>
  );
}
