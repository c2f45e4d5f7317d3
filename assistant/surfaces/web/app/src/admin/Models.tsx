import { useState } from "react";
import { api } from "../lib/api";
import { useLoad } from "../lib/load";
import { ago, capital, count, day, number } from "../lib/words";
import { Button } from "../ui/Button";
import { FormDialog } from "../ui/Dialog";
import { Check, Field } from "../ui/Field";
import { Plot, type Series } from "../ui/Plot";
import { Badge, Empty, Problem, Show } from "../ui/States";
import { toast } from "../ui/Toasts";

interface Estimate {
  value: number;
  low: number;
  high: number;
  count: number;
}

interface Version {
  name: string;
  kind: "generator" | "embedder";
  base: string;
  state: "training" | "failed" | "candidate" | "rejected" | "live" | "retired";
  reason: string;
  working: boolean;
  created_at: string;
  promoted_at: string | null;
  promoted_by: string | null;
  progress: number | null;
  seconds_left: number | null;
  metrics: Record<string, number>;
  evaluated: Record<string, Record<string, Estimate>>;
  losses: { step: number; loss?: number; dev_loss?: number }[];
}

const TONES = { training: "busy", failed: "bad", candidate: "plain", rejected: "off", live: "good", retired: "off" } as const;
const KINDS = { generator: "Writes the answers", embedder: "Finds the passages" };

/** What was trained here, how good it is, and which one answers. */
export function Models() {
  const versions = useLoad<Version[]>("/admin/models", 4);
  const [asked, setAsked] = useState<{ what: "promote" | "rollback"; version: Version } | null>(null);
  return (
    <>
      <p className="lead">Models trained on your own tickets. The one that answers is live; a better one takes its place without a restart.</p>
      <Show of={versions}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon="settings" title="Nothing was trained yet: the model answers as it came">
              <p className="hint">
                Train one on the command line: <code>deskhand tune train</code>
              </p>
            </Empty>
          ) : (
            <>
              <Compared versions={all} />
              <ul className="sources">
                {all.map((version) => (
                  <li key={version.name}>
                    <VersionView version={version} onAsk={(what) => setAsked({ what, version })} />
                  </li>
                ))}
              </ul>
            </>
          )
        }
      </Show>
      {asked && <Ask {...asked} onClose={() => setAsked(null)} reload={versions.reload} />}
    </>
  );
}

/** How measures that several versions of a kind have went from version to version. */
function Compared({ versions }: { versions: Version[] }) {
  const old = versions.filter((version) => Object.keys(version.metrics).length > 0).reverse();
  const plots = (["generator", "embedder"] as const).flatMap((kind) => {
    const mine = old.filter((version) => version.kind === kind);
    const shared = Object.keys(mine[0]?.metrics ?? {}).filter((name) => mine.filter((version) => name in version.metrics).length > 1);
    return shared.slice(0, 4).map((name) => {
      const points = mine.flatMap((version, at): [number, number][] => (name in version.metrics ? [[at, version.metrics[name]!]] : []));
      return <Plot key={`${kind} ${name}`} title={`${capital(name.replaceAll("_", " "))}, ${kind}s`} series={[{ name, points }]} x={(at) => mine[Math.round(at)]?.name ?? ""} />;
    });
  });
  return plots.length ? <div className="plots">{plots}</div> : null;
}

function VersionView({ version, onAsk }: { version: Version; onAsk: (what: "promote" | "rollback") => void }) {
  const losses: Series[] = [
    { name: "training", points: curve(version, "loss") },
    { name: "held out", points: curve(version, "dev_loss") },
  ].filter((line) => line.points.length > 1);
  const comparing = version.working && version.state !== "training";
  return (
    <article className="source" aria-label={version.name}>
      <header>
        <h2>{version.name}</h2>
        <span className="hint">{KINDS[version.kind]}</span>
        <Badge tone={comparing ? "busy" : TONES[version.state]}>{comparing ? "being compared" : version.state}</Badge>
        <span className="grow" />
        {(version.state === "candidate" || version.state === "rejected" || version.state === "retired") && !comparing && (
          <Button small icon="play" onClick={() => onAsk("promote")}>
            Promote
          </Button>
        )}
        {version.state === "live" && (
          <Button small icon="back" onClick={() => onAsk("rollback")}>
            Roll back
          </Button>
        )}
      </header>
      <p className="hint">
        Made of {version.base}, {day(version.created_at)}
        {version.promoted_at && `; live since ${ago(version.promoted_at)}${version.promoted_by ? `, by ${version.promoted_by}` : ""}`}
      </p>
      {version.progress !== null && (
        <div className="progress">
          <progress max={100} value={Math.round(version.progress * 100)} aria-label={`${version.name}: progress of the training`} />
          <span>
            {Math.round(version.progress * 100)} %{version.seconds_left ? `, ${Math.ceil(version.seconds_left / 60)} min left` : ""}
          </span>
        </div>
      )}
      {version.reason && (version.state === "failed" ? <Problem text={version.reason} /> : <p className="notice">{version.reason}</p>)}
      <div className="version-body">
        {losses.length > 0 && <Plot title="Loss by step" series={losses} x={(step) => `step ${Math.round(step)}`} />}
        <Measures version={version} />
      </div>
    </article>
  );
}

function curve(version: Version, name: "loss" | "dev_loss"): [number, number][] {
  return version.losses.flatMap((point): [number, number][] => (point[name] === undefined ? [] : [[point.step, point[name]]]));
}

function Measures({ version }: { version: Version }) {
  const sets = Object.entries(version.evaluated);
  if (!sets.length) return null;
  return (
    <div className="measures">
      {sets.map(([name, measured]) => (
        <details key={name} open={sets.length === 1}>
          <summary>Measured on {name}</summary>
          <dl className="measure-list">
            {Object.entries(measured).map(([measure, found]) => (
              <div key={measure}>
                <dt>{capital(measure.replaceAll("_", " "))}</dt>
                <dd>
                  {number(found.value)} <span className="hint">{`${number(found.low)} to ${number(found.high)}, ${count(found.count, "case")}`}</span>
                </dd>
              </div>
            ))}
          </dl>
        </details>
      ))}
    </div>
  );
}

function Ask({ what, version, onClose, reload }: { what: "promote" | "rollback"; version: Version; onClose: () => void; reload: () => void }) {
  const [force, setForce] = useState(false);
  const path = `/admin/models/${encodeURIComponent(version.name)}`;
  if (what === "rollback") {
    const back = async () => {
      const { live } = await api.post<{ live: string }>(`${path}/rollback`);
      toast(`${live} answers again.`);
      reload();
    };
    return (
      <FormDialog title={`Take back ${version.name}?`} action="Roll back" danger onClose={onClose} submit={back}>
        <p>What answered before it answers again, at once. Nothing is deleted.</p>
      </FormDialog>
    );
  }
  const promote = async (form: FormData) => {
    const { state } = await api.post<{ state: string }>(`${path}/promote`, force ? { force: form.get("reason") } : {});
    toast(state === "live" ? `${version.name} answers now.` : "The comparison begins; it takes minutes.");
    reload();
  };
  return (
    <FormDialog title={`Promote ${version.name}?`} action={force ? "Make it live" : "Compare it"} onClose={onClose} submit={promote}>
      <p>It answers past questions beside what is live now, and takes its place if it is better. Otherwise it is kept, with the reason.</p>
      <Check label="Make it live at once, without a comparison" checked={force} onChange={(event) => setForce(event.target.checked)} />
      {force && <Field label="Why" name="reason" required maxLength={1000} hint="It is kept in the audit log." />}
    </FormDialog>
  );
}
