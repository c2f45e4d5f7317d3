import { useState } from "react";
import { query } from "../lib/api";
import { useLoad } from "../lib/load";
import { day, number } from "../lib/words";
import { Select } from "../ui/Field";
import { Plot } from "../ui/Plot";
import { Empty, Show } from "../ui/States";
import { Table } from "../ui/Table";
import { Tiles } from "./Tiles";

interface UsageView {
  days: { day: string; questions: number; declined: number; people: number }[];
  totals: { questions: number; declined: number };
}

/** How much is asked, and how often the sources had it. */
export function Usage() {
  const [days, setDays] = useState(90);
  const usage = useLoad<UsageView>(`/admin/usage${query({ days })}`);
  return (
    <>
      <div className="page-head">
        <p className="lead">Questions by day, in UTC.</p>
        <Select label="Time" value={days} onChange={(event) => setDays(Number(event.target.value))}>
          <option value={7}>the last week</option>
          <option value={30}>the last month</option>
          <option value={90}>the last three months</option>
          <option value={365}>the last year</option>
        </Select>
      </div>
      <Show of={usage}>
        {({ days: rows, totals }) => {
          if (!rows.length) return <Empty icon="chart" title="Nothing was asked in this time" />;
          const sorted = [...rows].sort((a, b) => a.day.localeCompare(b.day));
          const line = (name: string, of: (row: (typeof rows)[number]) => number) => ({
            name,
            points: sorted.map((row): [number, number] => [Date.parse(row.day), of(row)]),
          });
          const share = totals.questions ? Math.round((1 - totals.declined / totals.questions) * 100) : 0;
          return (
            <>
              <Tiles
                items={[
                  { name: "Questions", value: number(totals.questions) },
                  { name: "Answered", value: `${share} %` },
                  { name: "Declined", value: number(totals.declined) },
                  { name: "Most people in a day", value: number(Math.max(...rows.map((row) => row.people))) },
                ]}
              />
              <div className="plots">
                <Plot
                  title="Questions a day"
                  from={0}
                  series={[line("asked", (row) => row.questions), line("declined", (row) => row.declined)]}
                  x={(at) => day(new Date(at).toISOString())}
                />
                <Plot title="People a day" from={0} series={[line("people", (row) => row.people)]} x={(at) => day(new Date(at).toISOString())} />
              </div>
              <Table
                name="Days"
                rows={sorted.reverse().slice(0, 31)}
                id={(row) => row.day}
                columns={[
                  { name: "Day", show: (row) => day(row.day) },
                  { name: "Questions", show: (row) => number(row.questions), right: true },
                  { name: "Declined", show: (row) => number(row.declined), right: true },
                  { name: "People", show: (row) => number(row.people), right: true },
                ]}
              />
            </>
          );
        }}
      </Show>
    </>
  );
}
