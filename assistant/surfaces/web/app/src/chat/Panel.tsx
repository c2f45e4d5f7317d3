import { type ReactNode, useEffect, useRef } from "react";
import { IconButton } from "../ui/Button";

/** What opens beside the conversation, and over it on a phone. It takes the focus; Escape gives it back. */
export function Panel({ title, label, onClose, children }: { title: string; label: string; onClose: () => void; children: ReactNode }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const before = document.activeElement;
    heading.current!.focus({ preventScroll: true });
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, [title]);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open],:popover-open")) close.current();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  return (
    <aside className="panel" aria-label={label}>
      <header>
        <div>
          <p className="panel-label">{label}</p>
          <h2 ref={heading} tabIndex={-1}>
            {title}
          </h2>
        </div>
        <IconButton icon="close" label="Close the panel" onClick={onClose} />
      </header>
      <div className="panel-body" tabIndex={0} role="region" aria-label={`${label}: ${title}`}>
        {children}
      </div>
    </aside>
  );
}
