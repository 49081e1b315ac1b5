// Numbers, money and times as the reader's locale writes them.

const DASH = "–";
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const one = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const signed = new Intl.NumberFormat(undefined, {
  style: "percent",
  maximumFractionDigits: 0,
  signDisplay: "exceptZero",
});
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const dayShort = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const monthLong = new Intl.DateTimeFormat(undefined, { month: "short", year: "numeric" });
const minute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const minuteShort = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "numeric",
  minute: "2-digit",
});
const second = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const AGES = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86_400, "hour", 3600],
  [86_400 * 45, "day", 86_400],
];

let currency = "USD";
const moneys = new Map();

export const number = (value) => (value === null || value === undefined ? DASH : whole.format(value));
/** 1.2M: for tiles and axes, where the exact number stands elsewhere. */
export const compact = (value) =>
  value === null || value === undefined ? DASH : Math.abs(value) < 10_000 ? whole.format(value) : short.format(value);
export const percent = (value) => (value === null || value === undefined ? DASH : share.format(value));
export const change = (value) => signed.format(value);
export const perSecond = (value) => (value === null || value === undefined ? DASH : one.format(value));

/** The currency that amounts are shown in. */
export const shownCurrency = () => currency;
/** The currencies other than dollars that `row` gives its amounts in, of `codes`. */
export const currenciesOf = (row, codes) => codes.filter((code) => row?.[`cost_${code.toLowerCase()}`] !== undefined);
export function showIn(code) {
  currency = code;
}

/** The amount that `row` names `name` (without _usd), in the shown currency if the API gave it, else in dollars. */
export function amount(row, name = "cost") {
  const own = row?.[`${name}_${currency.toLowerCase()}`];
  return currency === "USD" || own === undefined ? [row?.[`${name}_usd`], "USD"] : [own, currency];
}

const LEAST = 0.00001;
const PRECISIONS = {
  cents: { minimumFractionDigits: 2, maximumFractionDigits: 2 },
  mills: { minimumFractionDigits: 2, maximumFractionDigits: 3 },
  small: { maximumSignificantDigits: 2 },
};

/** An amount as money; small amounts keep two significant digits, down to a thousandth of a cent. */
export function money(value, code = "USD") {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(Number(value));
  if (size > 0 && size < LEAST) return `< ${money(LEAST, code)}`;
  const precision = size === 0 || size >= 0.0995 ? "cents" : size >= 0.00995 ? "mills" : "small";
  const name = `${code} ${precision}`;
  if (!moneys.has(name))
    moneys.set(name, new Intl.NumberFormat(undefined, { style: "currency", currency: code, ...PRECISIONS[precision] }));
  return moneys.get(name).format(Number(value));
}

/** What a row cost. */
export const cost = (row, name = "cost") => money(...amount(row, name));

/** Milliseconds as people say them. */
export function duration(ms) {
  if (ms === null || ms === undefined) return DASH;
  if (ms < 1000) return `${whole.format(ms)} ms`;
  if (ms < 60_000) return `${one.format(ms / 1000)} s`;
  return `${whole.format(Math.floor(ms / 60_000))} min ${whole.format(Math.round((ms % 60_000) / 1000))} s`;
}

export const date = (text) => (text ? day.format(new Date(text)) : DASH);
export const dateTime = (text) => (text ? minute.format(new Date(text)) : DASH);
/** Without the year: for the recent past. */
export const shortTime = (text) => minuteShort.format(new Date(text));
export const exactTime = (text) => (text ? second.format(new Date(text)) : DASH);
export const timeOfDay = (text) => clock.format(new Date(text));

/** "2026-11", "2026-11-03" or "2026-11-03T14:00", as statistics name times, for an axis. */
export function period(key) {
  const [year, month, rest] = key.split("-");
  if (rest === undefined)
    return month === undefined ? year : monthLong.format(new Date(Number(year), Number(month) - 1));
  const [dayOfMonth, time] = rest.split("T");
  const at = new Date(Number(year), Number(month) - 1, Number(dayOfMonth), Number((time ?? "0").slice(0, 2)));
  return time === undefined ? dayShort.format(at) : hour.format(at);
}

/** "3 hr. ago". */
export function since(text, now = Date.now()) {
  if (!text) return "never";
  const seconds = (new Date(text).getTime() - now) / 1000;
  for (const [below, unit, size] of AGES)
    if (Math.abs(seconds) < below) return ago.format(Math.round(seconds / size), unit);
  return date(text);
}

/** A quota's amount in its unit. */
export const inUnit = (unit, value) => (unit === "cost" ? money(value) : `${compact(Number(value))} ${unit}`);

export const titled = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");
export const plural = (count, singular, many = `${singular}s`) => `${number(count)} ${count === 1 ? singular : many}`;
