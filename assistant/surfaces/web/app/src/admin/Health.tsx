import { useLoad } from "../lib/load";
import { Button } from "../ui/Button";
import { Badge, Problem, Loading } from "../ui/States";

interface CheckRow {
  name: string;
  ok: boolean;
  detail: string;
  remedy: string;
}

/** What `deskhand doctor` says. */
export function Health() {
  const health = useLoad<CheckRow[]>("/admin/health");
  const bad = health.data?.filter((check) => !check.ok).length ?? 0;
  return (
    <>
      <div className="page-head">
        <p className="lead" role="status">
          {!health.data ? "Everything is being looked at; it takes some seconds." : bad ? `${bad} of ${health.data.length} need a look.` : "Everything is in order."}
        </p>
        <Button icon="retry" onClick={health.reload}>
          Look again
        </Button>
      </div>
      <Problem text={health.error} retry={health.reload} />
      {!health.data && !health.error && <Loading what="Looking" />}
      <ul className="cards">
        {health.data?.map((check) => (
          <li key={check.name} className="card">
            <p className="card-title">
              {check.name} <Badge tone={check.ok ? "good" : "bad"}>{check.ok ? "in order" : "look at it"}</Badge>
            </p>
            <p className="hint breakable">{check.detail}</p>
            {!check.ok && check.remedy && <p className="notice">{check.remedy}</p>}
          </li>
        ))}
      </ul>
    </>
  );
}
