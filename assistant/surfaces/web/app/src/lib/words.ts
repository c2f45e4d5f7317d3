import type { Evidence } from "./types";

export const EVIDENCE: Record<Evidence, { word: string; long: string }> = {
  document: { word: "Document", long: "From a document" },
  ticket: { word: "Past ticket", long: "From another customer's ticket, names masked" },
  history: { word: "This customer", long: "From this customer's own tickets" },
};

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
const NUMBER = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 3 });

function parsed(iso: string | null | undefined): Date | null {
  const date = iso ? new Date(iso) : null;
  return date && !Number.isNaN(date.valueOf()) ? date : null;
}

export function day(iso: string | null | undefined): string {
  const date = parsed(iso);
  return date ? DAY.format(date) : "";
}

export function moment(iso: string | null | undefined): string {
  const date = parsed(iso);
  return date ? MOMENT.format(date) : "";
}

/** "3 min ago", "in 2 h", or the day. */
export function ago(iso: string | null | undefined): string {
  const date = parsed(iso);
  if (!date) return "";
  const seconds = (Date.now() - date.valueOf()) / 1000;
  const far = Math.abs(seconds);
  if (far < 45) return seconds >= 0 ? "just now" : "in a moment";
  const [amount, unit] = far < 3600 ? [far / 60, "min"] : far < 86_400 ? [far / 3600, "h"] : [far / 86_400, "d"];
  if (unit === "d" && amount > 7) return DAY.format(date);
  const text = `${Math.round(amount)} ${unit}`;
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

export function number(value: number): string {
  return NUMBER.format(value);
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${number(n)} ${n === 1 ? one : many}`;
}

export function capital(text: string): string {
  return text ? text[0]!.toUpperCase() + text.slice(1) : text;
}

/** Which heading of a list a moment belongs under. */
export function period(iso: string): string {
  const date = parsed(iso);
  if (!date) return "Earlier";
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const days = (midnight.valueOf() - date.valueOf()) / 86_400_000;
  if (days <= 0) return "Today";
  if (days <= 1) return "Yesterday";
  if (days <= 7) return "Last 7 days";
  if (days <= 30) return "Last 30 days";
  return date.toLocaleDateString("en-GB", { month: "long", year: "numeric" });
}

/** An address that may be followed, or null: what a source says is data, and `javascript:` is no address. */
export function safeUrl(url: string | null | undefined): string | null {
  if (!url) return null;
  try {
    const { protocol } = new URL(url);
    return protocol === "https:" || protocol === "http:" || protocol === "mailto:" ? url : null;
  } catch {
    return null;
  }
}
