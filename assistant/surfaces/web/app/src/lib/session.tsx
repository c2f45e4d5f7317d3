import { createContext, useContext } from "react";
import type { Role, Session } from "./types";

export const SessionContext = createContext<{ session: Session; leave: () => void } | null>(null);

export function useSession(): { session: Session; leave: () => void } {
  const found = useContext(SessionContext);
  if (!found) throw new Error("used outside of a session");
  return found;
}

const ORDER: Role[] = ["agent", "owner", "admin"];

/** Which pages to offer. What somebody may do is decided by the server alone. */
export function atLeast(role: Role, least: Role): boolean {
  return ORDER.indexOf(role) >= ORDER.indexOf(least);
}
