import { type ReactNode, createContext, useContext, useEffect, useRef, useState } from "react";
import { Link, go, usePath } from "../lib/route";
import { atLeast, useSession } from "../lib/session";
import { type Theme, setTheme, theme } from "../lib/theme";
import { IconButton } from "./Button";
import { Icon } from "./Icon";
import { MenuItem, Popover } from "./Popover";
import { Shortcuts } from "./Shortcuts";

const Drawer = createContext<() => void>(() => {});

/** The frame of every page: a side with where one can go, beside it the page; on a phone the side is a drawer. */
export function Shell({ side, children, wide }: { side: ReactNode; children: ReactNode; wide?: boolean }) {
  const [open, setOpen] = useState(false);
  const drawer = useRef<HTMLElement>(null);
  const path = usePath();
  useEffect(() => setOpen(false), [path]);
  useEffect(() => {
    if (!open) return;
    drawer.current!.querySelector<HTMLElement>("a,button")?.focus();
    const key = (event: KeyboardEvent) => {
      if (event.key === "Escape") setOpen(false);
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [open]);
  return (
    <Drawer value={() => setOpen(true)}>
      <a className="skip" href="#main">
        Skip to the page
      </a>
      <div className={open ? "shell open" : "shell"}>
        <aside className="side" aria-label="Menu" ref={drawer}>
          <div className="brand">
            <Link href="/" className="brand-link">
              <img src="/icon.svg" alt="" width={26} height={26} />
              Deskhand
            </Link>
            <IconButton icon="close" label="Close the menu" className="only-phone" onClick={() => setOpen(false)} />
          </div>
          {side}
          <Me />
        </aside>
        <button type="button" className="scrim" tabIndex={-1} aria-label="Close the menu" onClick={() => setOpen(false)} />
        <main id="main" className={wide ? "main wide" : "main"} tabIndex={wide ? 0 : -1}>
          {children}
        </main>
      </div>
      <Shortcuts />
    </Drawer>
  );
}

/** The line above a page. */
export function Bar({ title, children }: { title: string; children?: ReactNode }) {
  const open = useContext(Drawer);
  useEffect(() => {
    document.title = title ? `${title} · Deskhand` : "Deskhand";
  }, [title]);
  return (
    <header className="bar">
      <IconButton icon="menu" label="Open the menu" className="only-phone" onClick={open} />
      <h1>{title}</h1>
      {children}
    </header>
  );
}

const THEMES: [Theme, string][] = [
  ["system", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];

function Me() {
  const { session, leave } = useSession();
  const { person } = session;
  const [look, setLook] = useState(theme);
  const at = usePath();
  return (
    <div className="me">
      <Link href="/handovers" className="me-link" aria-current={at.startsWith("/handovers") ? "page" : undefined}>
        <Icon name="handover" /> Hand-overs
      </Link>
      {atLeast(person.role, "owner") && (
        <Link href={atLeast(person.role, "admin") ? "/admin/sources" : "/admin/quality"} className="me-link" aria-current={at.startsWith("/admin") ? "page" : undefined}>
          <Icon name="settings" /> {atLeast(person.role, "admin") ? "Admin" : "Quality"}
        </Link>
      )}
      <Popover
        className="me-button"
        role="menu"
        name="Account"
        label={
          <>
            <span className="avatar" data-initials={initials(person.name)} aria-hidden="true" />
            <span className="me-name">{person.name}</span>
          </>
        }
      >
        {(close) => (
          <>
            <MenuItem
              icon="key"
              onPick={() => {
                close();
                go("/account");
              }}
            >
              Account and tokens
            </MenuItem>
            {THEMES.map(([value, label]) => (
              <MenuItem
                key={value}
                icon={look === value ? "check" : undefined}
                onPick={() => {
                  setTheme(value);
                  setLook(value);
                  close();
                }}
              >
                <span className={look === value ? "" : "no-icon"}>{label}</span>
              </MenuItem>
            ))}
            <MenuItem icon="out" onPick={leave}>
              Sign out
            </MenuItem>
          </>
        )}
      </Popover>
    </div>
  );
}

function initials(name: string): string {
  const words = name.split("@")[0]!.split(/[\s._-]+/);
  return words.slice(0, 2).map((word) => word.charAt(0).toUpperCase()).join("");
}
