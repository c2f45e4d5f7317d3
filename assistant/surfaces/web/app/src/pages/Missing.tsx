import { Link } from "../lib/route";
import { Bar, Shell } from "../ui/Shell";
import { Empty } from "../ui/States";

export function Missing() {
  return (
    <Shell side={<div className="grow" />} wide>
      <Bar title="Not here" />
      <Empty icon="search" title="There is no page at this address">
        <Link href="/" className="button primary">
          To the conversations
        </Link>
      </Empty>
    </Shell>
  );
}
