import { Link } from "../lib/route";
import { Icon } from "../ui/Icon";
import { Conversations } from "./Conversations";

/** Beside every page of an agent's: beginning a conversation, and those there are. */
export function Side({ current = null, onNew }: { current?: string | null; onNew?: () => void }) {
  return (
    <>
      <Link href="/" className="button new" onClick={onNew}>
        <Icon name="plus" /> New conversation
      </Link>
      <Conversations current={current} />
    </>
  );
}
