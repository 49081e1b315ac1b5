// The view as the address bar has it: range and filters, so that a view can be shared, bookmarked and gone back to.

export const BASE = "/dashboard";
export const FILTERS = {
  user: "User",
  group: "Group",
  key: "Key",
  model: "Model",
  operation: "Operation",
  endpoint: "Endpoint",
  provider: "Provider",
  status: "Status",
  end_user: "End user",
  service_tier: "Service tier",
  finish_reason: "Finish reason",
  outcome: "Outcome",
};
export const RANGES = {
  today: "Today",
  7: "Last 7 days",
  30: "Last 30 days",
  90: "Last 90 days",
  month: "This month",
  last_month: "Last month",
  all: "All time",
  custom: "Custom range…",
};
const ALL_DAYS = 3660;
const DAY_MS = 86_400_000;

/** The reader's zone; statistics are kept by the hour, so zones off by half hours read UTC. */
export const zone = (() => {
  const year = new Date().getFullYear();
  const whole = [0, 6].every((month) => new Date(year, month, 1).getTimezoneOffset() % 60 === 0);
  return (whole && Intl.DateTimeFormat().resolvedOptions().timeZone) || "UTC";
})();

const inZone = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" });
const isoDay = (time) => inZone.format(time).slice(0, 10);

/** What `/admin/stats` and `/me` count by the calendar of UTC, named so where the reader's is another. */
export const byUtc = (label) => (zone === "UTC" ? label : `${label}, UTC`);

/** The query of the address bar. */
export const current = () => new URLSearchParams(location.search);

/** Which range is chosen: one of RANGES. */
export function rangeOf(query, standard = "30") {
  if (query.get("start") || query.get("end")) return "custom";
  const named = query.get("range");
  return named && named in RANGES ? named : standard;
}

/** The range as the API takes it. */
export function periodOf(query, standard = "30") {
  const range = rangeOf(query, standard);
  const today = isoDay(Date.now());
  if (range === "custom") return { start: query.get("start"), end: query.get("end"), tz: zone };
  if (range === "today") return { start: today, end: today, tz: zone };
  if (range === "month") return { start: `${today.slice(0, 8)}01`, end: today, tz: zone };
  if (range === "last_month") {
    const last = isoDay(new Date(`${today.slice(0, 8)}01T12:00:00Z`).getTime() - DAY_MS);
    return { start: `${last.slice(0, 8)}01`, end: last, tz: zone };
  }
  return { days: range === "all" ? ALL_DAYS : Number(range), tz: zone };
}

/** The filters as the API takes them. */
export function filtersOf(query) {
  const found = {};
  for (const [name, value] of query) if (value && (name in FILTERS || name.startsWith("tag."))) found[name] = value;
  return found;
}

/** How fine a time axis over a period is: "hour", "day" or "month". */
export function stepOf({ start, end }) {
  const days = (new Date(end) - new Date(start)) / DAY_MS;
  return days <= 2.1 ? "hour" : days <= 130 ? "day" : "month";
}

/** Every hour, day or month of a period as statistics name them, those without usage too. */
export function keysOf({ start, end }, step) {
  const last = Math.min(new Date(end).getTime(), Date.now() + DAY_MS);
  const keys = new Set();
  const stride = step === "hour" ? 3_600_000 : DAY_MS;
  const length = { hour: 13, day: 10, month: 7 }[step];
  const add = (at) => {
    const key = inZone.format(at).replace(" ", "T").slice(0, length);
    keys.add(step === "hour" ? `${key}:00` : key);
  };
  // From the middle of each day, so that no change of clocks skips or repeats one; the last may only have begun.
  for (let at = new Date(start).getTime() + stride / 2; at < last; at += stride) add(at);
  add(last - 1);
  return [...keys];
}

/** A link to `path` that keeps range, filters and currency; `set` changes some of them. */
export function link(path, set = {}, keep = ["range", "start", "end", "currency"]) {
  const query = new URLSearchParams();
  for (const [name, value] of current()) if (keep.includes(name)) query.set(name, value);
  for (const [name, value] of Object.entries(set)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `${BASE}${path === "/" ? "" : path}${text ? `?${text}` : ""}`;
}

/** This page's address with some of its query changed. */
export function here(set) {
  const path = location.pathname.slice(BASE.length) || "/";
  return link(path, set, [...current().keys()]);
}
