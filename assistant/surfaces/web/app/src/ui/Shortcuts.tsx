import { useEffect, useState } from "react";
import { go } from "../lib/route";
import { Dialog } from "./Dialog";

const KEYS: [string, string][] = [
  ["/", "Write a question"],
  ["Enter", "Ask; Shift+Enter begins a new line"],
  ["Escape", "Stop the answer, or close what is open"],
  ["Alt+N", "New conversation"],
  ["Ctrl+K", "Search conversations"],
  ["↑ ↓", "Move in lists and menus"],
  ["?", "This list"],
];

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

/** Keys that work on every page. */
export function Shortcuts() {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (document.querySelector("dialog[open]")) return;
      const focus = (id: string) => {
        const element = document.getElementById(id);
        if (!element) return;
        event.preventDefault();
        element.focus();
      };
      if ((event.ctrlKey || event.metaKey) && event.key === "k") focus("search-conversations");
      else if (event.altKey && event.code === "KeyN") {
        event.preventDefault();
        go("/");
        // From a conversation to the empty page the field is a new one.
        setTimeout(() => document.getElementById("question")?.focus());
      } else if (!typing(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
        if (event.key === "/") focus("question");
        if (event.key === "?") setShown(true);
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  if (!shown) return null;
  return (
    <Dialog title="Keyboard" onClose={() => setShown(false)}>
      <dl className="keys">
        {KEYS.map(([name, what]) => (
          <div key={name}>
            <dt>
              <kbd>{name}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
