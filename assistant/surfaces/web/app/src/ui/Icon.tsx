/** Line icons of our own on a grid of 20. */
const PATHS = {
  plus: "M10 4v12M4 10h12",
  search: "M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12ZM13.5 13.5 17 17",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6Z",
  more: "M4.5 9.5a.5.5 0 1 0 0 1 .5.5 0 1 0 0-1ZM10 9.5a.5.5 0 1 0 0 1 .5.5 0 1 0 0-1ZM15.5 9.5a.5.5 0 1 0 0 1 .5.5 0 1 0 0-1Z",
  close: "M5 5l10 10M15 5 5 15",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  up: "M6.5 9v7.5h-3V9ZM6.5 9l3-6.5c1.2 0 2 .8 2 2V8h4a1.5 1.5 0 0 1 1.5 1.8l-1 5.4a1.6 1.6 0 0 1-1.6 1.3H6.5",
  down: "M13.5 11V3.5h3V11ZM13.5 11l-3 6.5c-1.2 0-2-.8-2-2V12h-4A1.5 1.5 0 0 1 3 10.2l1-5.4a1.6 1.6 0 0 1 1.6-1.3h7.9",
  copy: "M7 7V3.5h9.5V13H13M3.5 7H13v9.5H3.5Z",
  reply: "M8 5 3.5 9.5 8 14M4 9.5h7.5a5 5 0 0 1 5 5v1",
  person: "M10 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3.5 17a6.5 6.5 0 0 1 13 0",
  handover: "M7.5 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 16.5a5.5 5.5 0 0 1 9.5-3.7M12.5 15h5.5M15.5 12.5 18 15l-2.5 2.5",
  retry: "M16 6.5A7 7 0 1 0 17 10M16.5 3v4h-4",
  edit: "M4 16l.8-3.5L13.5 3.8l2.7 2.7-8.7 8.7Z",
  share: "M14.5 7a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM5.5 12.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM14.5 18a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM7.8 8.8l4.5-2.6M7.8 11.3l4.5 2.6",
  trash: "M4 5.5h12M8 5.5V3.5h4v2M5.5 5.5l.7 11h7.6l.7-11M8.5 8.5v5M11.5 8.5v5",
  document: "M5 2.5h6.5L15.5 6.5v11H5ZM11.5 2.5v4h4M7.5 10h5M7.5 13h5",
  ticket: "M2.5 6h15v2.5a1.5 1.5 0 0 0 0 3V14h-15v-2.5a1.5 1.5 0 0 0 0-3ZM12 6v8",
  history: "M3.5 10A6.5 6.5 0 1 0 5.5 5.3M3.5 3v3.5H7M10 6.5V10l2.5 1.5",
  link: "M8 4H4v12h12v-4M11 3.5h5.5V9M16.5 3.5 9 11",
  flag: "M4.5 17.5v-14M4.5 4h10.5l-2.5 3.5L15 11H4.5",
  check: "M4 10.5l4 4 8-9",
  warn: "M10 3 2.5 16.5h15ZM10 8v4M10 14.3h.01",
  lock: "M5 9h10v8H5ZM7 9V6.5a3 3 0 0 1 6 0V9",
  globe: "M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM2.5 10h15M10 2.5c4.5 4.5 4.5 10.5 0 15-4.5-4.5-4.5-10.5 0-15Z",
  settings: "M3 6h8M15 6h2M3 14h2M9 14h8M13 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM7 16a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  out: "M8 3.5H3.5v13H8M12 6.5 16 10l-4 3.5M16 10H7",
  clip: "M15.5 9.5l-5.7 5.7a3.6 3.6 0 0 1-5-5l6.4-6.5a2.4 2.4 0 0 1 3.4 3.4l-6.3 6.3a1.2 1.2 0 0 1-1.7-1.7l5.5-5.4",
  back: "M12.5 4.5 7 10l5.5 5.5",
  chart: "M3 17h14M5.5 14V9M10 14V4M14.5 14v-3.5",
  play: "M6.5 4v12l9-6Z",
  pause: "M7 4.5v11M13 4.5v11",
  key: "M12.5 11a4 4 0 1 0-3.7-2.5L3 14.5V17h2.5l.5-1.5h1.5V14H9l1-1.7",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
