import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { Icon, type IconName } from "./Icon";

interface Props {
  /** What it is, for a screen reader; also the button's name where that is only an icon. */
  name: string;
  icon?: IconName;
  /** The button's content, where it isn't only an icon. */
  label?: ReactNode;
  className?: string;
  align?: "start" | "end";
  role?: "dialog" | "menu";
  onOpen?: () => void;
  children: (close: () => void) => ReactNode;
}

const GAP = 6;

/** The browser's own popover: in the top layer, closed by Escape or a click elsewhere; placed beside its button. */
export function Popover({ className = "icon-button", icon, label, name, align = "start", role = "dialog", onOpen, children }: Props) {
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const id = useId();
  const close = () => {
    panel.current?.hidePopover();
    button.current?.focus();
  };
  useEffect(() => {
    const element = panel.current!;
    const toggled = (event: Event) => {
      const opened = (event as ToggleEvent).newState === "open";
      setOpen(opened);
      if (opened) onOpen?.();
    };
    element.addEventListener("toggle", toggled);
    return () => element.removeEventListener("toggle", toggled);
  }, [onOpen]);
  useEffect(() => {
    if (!open) return;
    place(button.current!, panel.current!, align);
    panel.current!.querySelector<HTMLElement>("[autofocus],input,[role=menuitem],button,a")?.focus();
  }, [open, align]);
  const move = (event: KeyboardEvent) => {
    if (role !== "menu" || !["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const items = [...panel.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key] ?? 0;
    items.at(next % items.length)?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        className={className}
        popoverTarget={id}
        aria-haspopup={role}
        aria-expanded={open}
        aria-label={icon && name}
        title={icon && name}
      >
        {icon ? <Icon name={icon} /> : label}
      </button>
      <div ref={panel} id={id} popover="auto" className={role === "menu" ? "popover" : "popover box"} role={open ? role : undefined} aria-label={name} onKeyDown={move}>
        {open && children(close)}
      </div>
    </>
  );
}

function place(button: HTMLElement, panel: HTMLElement, align: "start" | "end"): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = panel;
  const below = at.bottom + GAP + height <= innerHeight || at.top < innerHeight - at.bottom;
  const left = align === "start" ? at.left : at.right - width;
  panel.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  // From below it grows upwards, whatever comes into it later.
  panel.style.top = below ? `${at.bottom + GAP}px` : "auto";
  panel.style.bottom = below ? "auto" : `${innerHeight - at.top + GAP}px`;
  panel.style.maxHeight = `${Math.max(160, (below ? innerHeight - at.bottom : at.top) - 2 * GAP - 8)}px`;
}

export function MenuItem({ icon, danger, onPick, children }: { icon?: IconName; danger?: boolean; onPick: () => void; children: ReactNode }) {
  return (
    <button type="button" role="menuitem" tabIndex={-1} className={danger ? "menu-item danger" : "menu-item"} onClick={onPick}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}
