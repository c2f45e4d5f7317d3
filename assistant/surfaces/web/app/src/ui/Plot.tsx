import { number } from "../lib/words";

export interface Series {
  name: string;
  /** x and y of each point, in the order of x */
  points: [number, number][];
}

interface Props {
  title: string;
  series: Series[];
  x?: (value: number) => string;
  y?: (value: number) => string;
  /** Where y begins, where nothing should look steeper than it is. */
  from?: number;
}

const WIDTH = 460;
const HEIGHT = 180;
const LEFT = 48;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 26;

/** Lines over time; the numbers stand in a table below it for those who can't see it. */
export function Plot({ title, series, x = number, y = number, from }: Props) {
  const all = series.flatMap((line) => line.points);
  if (!all.length) return null;
  const xs = all.map(([at]) => at);
  const ys = all.map(([, value]) => value);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const low = from ?? Math.min(...ys);
  const ticks = steps(low, Math.max(...ys));
  const [bottom, top] = [ticks[0]!, ticks.at(-1)!];
  const toX = (at: number) => LEFT + ((at - left) / (right - left || 1)) * (WIDTH - LEFT - RIGHT);
  const toY = (value: number) => HEIGHT - BOTTOM - ((value - bottom) / (top - bottom || 1)) * (HEIGHT - TOP - BOTTOM);
  return (
    <figure className="plot">
      <figcaption>
        {title}
        {series.length > 1 && (
          <span className="legend">
            {series.map((line, at) => (
              <span key={line.name} className={`line-${at}`}>
                {line.name}
              </span>
            ))}
          </span>
        )}
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
        {ticks.map((tick) => (
          <g key={tick}>
            <line x1={LEFT} x2={WIDTH - RIGHT} y1={toY(tick)} y2={toY(tick)} className="grid" />
            <text x={LEFT - 8} y={toY(tick) + 4} textAnchor="end">
              {y(tick)}
            </text>
          </g>
        ))}
        {(left === right ? [left] : [left, right]).map((at, n) => (
          <text key={at} x={toX(at)} y={HEIGHT - 6} textAnchor={n ? "end" : "start"}>
            {x(at)}
          </text>
        ))}
        {series.map((line, at) => (
          <g key={line.name} className={`line-${at}`}>
            <polyline points={line.points.map(([px, py]) => `${toX(px)},${toY(py)}`).join(" ")} />
            {line.points.length <= 40 && line.points.map(([px, py]) => <circle key={px} cx={toX(px)} cy={toY(py)} r={2.8} />)}
          </g>
        ))}
      </svg>
      <table className="visually-hidden">
        <caption>{title}</caption>
        <thead>
          <tr>
            <th scope="col">At</th>
            {series.map((line) => (
              <th key={line.name} scope="col">
                {line.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {[...new Set(xs)].sort((a, b) => a - b).map((at) => (
            <tr key={at}>
              <th scope="row">{x(at)}</th>
              {series.map((line) => {
                const point = line.points.find(([px]) => px === at);
                return <td key={line.name}>{point ? y(point[1]) : ""}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  );
}

/** Three to six round numbers that reach from below `low` to above `high`. */
export function steps(low: number, high: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough)!;
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  return Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
}
