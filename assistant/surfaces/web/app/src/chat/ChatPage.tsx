import { useCallback, useEffect, useRef, useState } from "react";
import { api } from "../lib/api";
import { go } from "../lib/route";
import { Shell } from "../ui/Shell";
import { conversationsChanged } from "./Conversations";
import { Side } from "./Side";
import { Chat } from "./Chat";

let made = 0;

function fresh(id: string | null): { key: string; id: string | null } {
  return { key: `chat-${++made}`, id };
}

/**
 * The conversation that the address names. A new one gets its id, and so its address, while its first answer is being
 * written: that must not begin it anew.
 */
export function ChatPage({ id }: { id: string | null }) {
  const [shown, setShown] = useState(() => fresh(id));
  const started = useRef("");
  if (shown.id !== id && started.current !== id) {
    started.current = "";
    setShown(fresh(id));
  }
  const { key } = shown;
  const begun = useCallback((conversation: string) => {
    conversationsChanged();
    if (started.current === conversation) return;
    started.current = conversation;
    setShown((old) => ({ ...old, id: conversation }));
    go(`/c/${conversation}`, { replace: true });
  }, []);
  return (
    <Shell side={<Side current={id} onNew={() => id === null && setShown(fresh(null))} />}>
      <Chat key={key} chatKey={key} id={shown.id} onBegun={begun} />
    </Shell>
  );
}

/** Questions to begin with; the page works as well without them. */
export function useSuggestions(wanted: boolean): string[] {
  const [items, setItems] = useState<string[]>([]);
  useEffect(() => {
    if (!wanted) return;
    api
      .get<string[]>("/suggestions")
      .then(setItems)
      .catch(() => {});
  }, [wanted]);
  return items;
}
