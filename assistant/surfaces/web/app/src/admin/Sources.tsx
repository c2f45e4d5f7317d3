import { useState } from "react";
import { api, query } from "../lib/api";
import { useAction, useLoad } from "../lib/load";
import type { Id, Page } from "../lib/types";
import { ago, count, moment, number } from "../lib/words";
import { Button } from "../ui/Button";
import { Dialog, FormDialog } from "../ui/Dialog";
import { Select } from "../ui/Field";
import { MenuItem, Popover } from "../ui/Popover";
import { Badge, Empty, Problem, Show } from "../ui/States";
import { Table } from "../ui/Table";
import { toast } from "../ui/Toasts";

interface SourceRow {
  id: Id;
  name: string;
  connector: string;
  state: "never" | "queued" | "running" | "done" | "failed" | "paused";
  last_run: string | null;
  next_run: string | null;
  every: string | null;
  cron: string | null;
  documents: number;
  tickets: number;
  pending: number;
  failures: number;
  paused: string;
  held: number;
  held_examples?: string[];
  progress: number | null;
  read: number;
  total: number | null;
  error: string;
  note: string;
}

interface Failure {
  id: Id;
  external_id: string;
  stage: string;
  reason: string;
  attempts: number;
  last_at: string;
}

const TONES = { never: "plain", queued: "busy", running: "busy", done: "good", failed: "bad", paused: "off" } as const;
const WORDS = { never: "not yet synced", queued: "waiting", running: "syncing", done: "in order", failed: "failed", paused: "paused" };
const EVERY = ["5m", "15m", "1h", "6h", "1d", "never"];

type Asked = { what: "pause" | "schedule" | "failures" | "held"; source: SourceRow };

export function Sources() {
  const sources = useLoad<SourceRow[]>("/admin/sources", 3);
  const [asked, setAsked] = useState<Asked | null>(null);
  return (
    <>
      <p className="lead">Where documents and tickets come from, and how far they are read.</p>
      <Show of={sources}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty icon="document" title="No sources yet">
              <p className="hint">
                Add the first on the command line: <code>deskhand source add</code>
              </p>
            </Empty>
          ) : (
            <ul className="sources">
              {rows.map((row) => (
                <li key={row.id}>
                  <SourceView row={row} onAsk={(what) => setAsked({ what, source: row })} reload={sources.reload} />
                </li>
              ))}
            </ul>
          )
        }
      </Show>
      {asked && <Ask {...asked} onClose={() => setAsked(null)} reload={sources.reload} />}
    </>
  );
}

function SourceView({ row, onAsk, reload }: { row: SourceRow; onAsk: (what: Asked["what"]) => void; reload: () => void }) {
  const { busy, error, run } = useAction();
  const act = (what: string, said: string) =>
    void run(async () => {
      await api.post(`/admin/sources/${encodeURIComponent(row.name)}/${what}`);
      toast(said);
      reload();
    });
  const paused = row.state === "paused" || row.paused !== "";
  return (
    <article className="source" aria-label={row.name}>
      <header>
        <h2>{row.name}</h2>
        <span className="hint">{row.connector}</span>
        <Badge tone={TONES[row.state] ?? "plain"}>{WORDS[row.state] ?? row.state}</Badge>
        <span className="grow" />
        <Button small icon="retry" busy={busy || row.state === "running"} onClick={() => act("sync", `A sync of ${row.name} begins.`)} disabled={paused}>
          Sync now
        </Button>
        <Popover icon="more" name={`More for ${row.name}`} role="menu" align="end">
          {(close) => {
            const pick = (action: () => void) => () => {
              close();
              action();
            };
            return (
              <>
                <MenuItem icon="history" onPick={pick(() => onAsk("schedule"))}>
                  Schedule
                </MenuItem>
                <MenuItem icon="lock" onPick={pick(() => act("permissions", "Permissions are read anew."))}>
                  Sync permissions
                </MenuItem>
                {paused ? (
                  <MenuItem icon="play" onPick={pick(() => act("resume", `${row.name} goes on.`))}>
                    Resume
                  </MenuItem>
                ) : (
                  <MenuItem icon="pause" onPick={pick(() => onAsk("pause"))}>
                    Pause
                  </MenuItem>
                )}
              </>
            );
          }}
        </Popover>
      </header>
      {row.progress !== null && (row.state === "running" || row.pending > 0) && <Progress row={row} />}
      <dl className="numbers">
        <Fact name="Documents" value={number(row.documents)} />
        <Fact name="Tickets" value={number(row.tickets)} />
        <Fact name="Waiting" value={number(row.pending)} />
        <Fact name="Last run" value={ago(row.last_run) || "never"} title={moment(row.last_run)} />
        <Fact name="Next run" value={paused ? "paused" : ago(row.next_run) || "by hand"} title={moment(row.next_run)} />
        <Fact name="Schedule" value={row.cron || (row.every ? `every ${row.every}` : "by hand")} />
      </dl>
      {row.paused && <p className="notice">Paused: {row.paused}</p>}
      <Problem text={error || row.error} />
      {row.note && <p className="hint">{row.note}</p>}
      {row.failures > 0 && (
        <Button small icon="warn" onClick={() => onAsk("failures")}>
          {count(row.failures, "failure")}: why, and try again
        </Button>
      )}
      {row.held > 0 && (
        <Button small icon="trash" onClick={() => onAsk("held")}>
          {count(row.held, "deletion")} held back: look
        </Button>
      )}
    </article>
  );
}

function Progress({ row }: { row: SourceRow }) {
  const share = Math.round((row.progress ?? 0) * 100);
  return (
    <div className="progress">
      <progress max={100} value={share} aria-label={`${row.name}: progress of the sync`} />
      <span>{row.total ? `${number(row.read)} of ${number(row.total)}` : `${share} %`}</span>
    </div>
  );
}

function Fact({ name, value, title }: { name: string; value: string; title?: string }) {
  return (
    <div title={title || undefined}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Ask({ what, source, onClose, reload }: Asked & { onClose: () => void; reload: () => void }) {
  const path = `/admin/sources/${encodeURIComponent(source.name)}`;
  if (what === "failures") return <Failures source={source} onClose={onClose} reload={reload} />;
  if (what === "schedule") {
    const change = async (form: FormData) => {
      await api.patch(path, { every: form.get("every") });
      reload();
    };
    return (
      <FormDialog title={`How often ${source.name} is synced`} action="Set" onClose={onClose} submit={change}>
        {source.cron && <p className="hint">Now: {source.cron}</p>}
        <Select label="Every" name="every" defaultValue={source.every ?? "never"}>
          {[...new Set([source.every, ...EVERY])].filter((every) => every !== null).map((every) => (
            <option key={every} value={every}>
              {every === "never" ? "only by hand" : every}
            </option>
          ))}
        </Select>
      </FormDialog>
    );
  }
  if (what === "pause") {
    const pause = async () => {
      await api.post(`${path}/pause`);
      reload();
    };
    return (
      <FormDialog title={`Pause ${source.name}?`} action="Pause" onClose={onClose} submit={pause}>
        <p>What is read stays and is answered from; nothing new is read, rights taken away included, until it goes on.</p>
      </FormDialog>
    );
  }
  const confirm = async () => {
    await api.post(`${path}/confirm-prune`);
    reload();
  };
  return (
    <FormDialog title={`Delete ${count(source.held, "document")}?`} action="Delete them" danger onClose={onClose} submit={confirm}>
      <p>The source no longer lists them. So many at once may also mean a lost right or an unmounted share, so they were kept.</p>
      {source.held_examples && source.held_examples.length > 0 && (
        <ul className="facts">
          {source.held_examples.map((name) => (
            <li key={name}>{name}</li>
          ))}
        </ul>
      )}
    </FormDialog>
  );
}

function Failures({ source, onClose, reload }: { source: SourceRow; onClose: () => void; reload: () => void }) {
  const failures = useLoad<Page<Failure>>(`/admin/failures${query({ source: source.name })}`);
  const { busy, error, run } = useAction();
  const retry = (ids?: Id[]) =>
    void run(async () => {
      const { queued } = await api.post<{ queued: number }>(`/admin/sources/${encodeURIComponent(source.name)}/retry`, ids ? { ids } : {});
      toast(`${count(queued, "item")} will be tried again.`);
      failures.reload();
      reload();
    });
  return (
    <Dialog title={`What ${source.name} could not read`} onClose={onClose} wide>
      <div className="stack">
        <Show of={failures}>
          {({ items }) => (
            <Table
              name="Failures"
              rows={items}
              id={(row) => String(row.id)}
              columns={[
                { name: "Item", show: (row) => <span className="breakable">{row.external_id}</span> },
                { name: "Why", show: (row) => row.reason },
                { name: "Tried", show: (row) => `${count(row.attempts, "time")}, ${ago(row.last_at)}` },
                {
                  name: "",
                  show: (row) => (
                    <Button small look="quiet" onClick={() => retry([row.id])}>
                      Retry
                    </Button>
                  ),
                },
              ]}
            />
          )}
        </Show>
        <Problem text={error} />
        <footer>
          <Button look="primary" icon="retry" busy={busy} onClick={() => retry()}>
            Retry all
          </Button>
        </footer>
      </div>
    </Dialog>
  );
}
