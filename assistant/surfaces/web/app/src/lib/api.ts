/** Requests to our own origin; every failure becomes an `ApiError` whose message a person can read. */

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export const OFFLINE = "Deskhand can't be reached. Nothing was lost; it is tried again when the connection is back.";

let csrf = "";
let expired = () => {};

export function keepToken(token: string): void {
  csrf = token;
}

/** Called whenever the server says that nobody is logged in. */
export function onExpired(listener: () => void): void {
  expired = listener;
}

export async function request(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (init.method && init.method !== "GET") headers.set("X-CSRF-Token", csrf);
  let response: Response;
  try {
    response = await fetch(input, { ...init, headers, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(OFFLINE, 0);
  }
  if (response.ok) return response;
  const message = await sentence(response);
  if (response.status === 401) expired();
  throw new ApiError(message, response.status);
}

async function sentence(response: Response): Promise<string> {
  try {
    const { detail } = (await response.json()) as { detail?: unknown };
    if (typeof detail === "string" && detail) return detail;
    if (Array.isArray(detail)) return detail.map((item: { msg?: string }) => item.msg ?? "").join("; ");
  } catch {
    // Not JSON: a proxy in between, or a server that is starting.
  }
  if (response.status === 404) return "That isn't here, or you may not see it.";
  if (response.status === 429) return "Too many requests. Wait a moment, then try again.";
  return `Deskhand answered with an error (${response.status}). Nothing was lost; try again in a moment.`;
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, signal };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  const response = await request(`/api/v1${path}`, init);
  const text = response.status === 204 ? "" : await response.text();
  return (text ? JSON.parse(text) : null) as T;
}

export const api = {
  get: <T>(path: string, signal?: AbortSignal) => call<T>("GET", path, undefined, signal),
  post: <T = unknown>(path: string, body: unknown = {}) => call<T>("POST", path, body),
  put: <T = unknown>(path: string, body: unknown) => call<T>("PUT", path, body),
  patch: <T = unknown>(path: string, body: unknown) => call<T>("PATCH", path, body),
  remove: <T = unknown>(path: string) => call<T>("DELETE", path),
};

/** Ask whether anybody is still signed in here, and say so to the page if nobody is. */
export async function sessionEnded(): Promise<void> {
  const session = await api.get<unknown>("/session").catch(() => undefined);
  if (session === null) expired();
}

/** `?a=1&b=2` of what is set. */
export function query(values: Record<string, string | number | boolean | null | undefined>): string {
  const set = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set.map(([key, value]) => [key, String(value)]))}` : "";
}

export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
