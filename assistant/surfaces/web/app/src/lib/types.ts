/** What the API speaks; the shapes are those of `/api/v1`, in its own words. */

export type Id = string | number;
export type Role = "agent" | "owner" | "admin";
export type Evidence = "document" | "ticket" | "history";

export interface Person {
  id: Id;
  name: string;
  role: Role;
}

export interface Session {
  person: Person;
  csrf: string;
  features: {
    /** May work on what others handed over. */
    escalate: boolean;
    /** Signs in with a password of Deskhand's own. */
    local: boolean;
    question_max_chars: number;
    max_file_mb: number;
  };
}

export interface LoginWays {
  local: boolean;
  providers: { id: string; label: string }[];
}

export interface Source {
  marker: number | null;
  document_id: Id;
  chunk_id: Id | null;
  title: string;
  kind: "document" | "ticket" | "attachment";
  evidence: Evidence;
  outcome: string;
  url: string;
  created_at: string | null;
  headings: string[];
  page: number | null;
  audience: "public" | "internal";
  text: string;
  /** Offsets in characters as Python counts them: code points. */
  quotes: { start: number; end: number }[];
  deleted: boolean;
  before?: string | null;
  after?: string | null;
}

export interface Verdict {
  verdict: string;
  marker?: number | null;
  comment?: string;
}

export interface Message {
  id: Id;
  role: "user" | "assistant";
  text: string;
  created_at: string;
  declined: boolean;
  refusal: string;
  stopped: boolean;
  confidence: number;
  sure: string;
  question: string;
  model: string;
  sources: Source[];
  nearest: Source[];
  feedback: Verdict[] | null;
}

export interface Named {
  id: Id;
  name: string;
}

export interface About {
  customer: Named | null;
  how: string;
  others: string[];
}

export interface ConversationRow {
  id: string;
  title: string;
  created_at: string;
  updated_at: string;
  customer: Named | null;
  shared: boolean;
}

export interface Conversation {
  id: string;
  title: string;
  messages: Message[];
  running: boolean;
  mine: boolean;
  asked_by: string;
  customer: Named | null;
  /** Its address or number. */
  ticket: string | null;
  share: string | null;
  shared: boolean;
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

export interface CustomerRow extends Named {
  open: number;
  tickets: number;
}

export interface Line {
  at: string | null;
  kind: string;
  text: string;
}

export interface PastTicket {
  document_id: Id;
  ticket: string;
  title: string;
  status: string;
  is_open: boolean;
  created_at: string | null;
  solved_at: string | null;
  url: string;
  lines: Line[];
}

export interface CustomerHistory {
  timeline: PastTicket[];
  open: PastTicket[];
  open_tickets: number;
  recurring: { what: string; tickets: number; latest: string | null }[];
  versions: { product: string; version: string; at: string | null }[];
}

export interface Ticket extends PastTicket {
  external_id: string;
  customer: Named | null;
}

export interface HandOver {
  id: string;
  state: "open" | "taken" | "delivered" | "closed";
  question: string;
  /** Its address. */
  ticket: string | null;
  asked_by: string;
  created_at: string;
  changed_by: string | null;
  /** What was said when it was closed. */
  note: string;
  mine: boolean;
}

/** With what was found for it, as far as the reader may read that. */
export interface Packet extends HandOver {
  customer: Named | null;
  nearest: { title: string; url: string; evidence: Evidence }[];
  history: PastTicket[];
  experts: { name: string; why: string }[];
  queue: string;
  text: string;
}
