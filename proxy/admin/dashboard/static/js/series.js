// Usage over time, stacked by what it was for.

import * as api from "./api.js";
import { filtersOf, keysOf, stepOf } from "./address.js";
import { chart } from "./charts.js";
import * as format from "./format.js";

const SHOWN = 7;
const ROWS_MAX = 1000;
export const METRICS = { cost: "Cost", tokens: "Tokens", requests: "Requests" };
const COLUMNS = { tokens: "total_tokens", requests: "requests" };

/** A row's number of a metric. */
export const measure = (metric, row) => (metric === "cost" ? Number(format.amount(row)[0] ?? 0) : row[COLUMNS[metric]]);

const shown = (metric, value, code) =>
  metric === "cost" ? format.money(value, code) : format.number(Math.round(value));
const onAxis = (metric, value, code) => (metric === "cost" ? format.money(value, code) : format.compact(value));

/**
 * Load a chart: `by` a dimension, whose seven largest values are stacked and the rest is "Other"; without it the sum.
 * `source` asks the API for rows by dimensions: (params) => {data, period}.
 */
export async function usageOverTime({
  period,
  query,
  by = null,
  metric = "cost",
  source,
  label = "Usage over time",
  low = false,
  filters = filtersOf(query),
}) {
  const asked = { ...period, ...filters };
  const [totals, tops] = await Promise.all([
    step(source, asked),
    by && !filters[by] ? source({ ...asked, group_by: by, sort: metric, limit: SHOWN + 1 }) : null,
  ]);
  const { keys, axis } = totals;
  const code = format.amount(totals.rows.values().next().value)[1];
  const all = keys.map((key) => totals.rows.get(key) ?? 0).map((row) => (row ? measure(metric, row) : 0));
  const options = {
    label,
    keys,
    name: format.period,
    value: (value) => shown(metric, value, code),
    axis: (value) => onAxis(metric, value, code),
    low,
  };
  // A comma separates values in the API's filters; what holds one, and what has no name, is among the others.
  const named =
    tops?.data.filter((row) => row.key && !row.key.includes(",") && measure(metric, row) > 0).slice(0, SHOWN) ?? [];
  if (named.length < (tops?.data.length > 1 ? 1 : 2)) {
    return chart({ ...options, series: [{ label: METRICS[metric], values: all }] });
  }
  const per = await pages(source, { ...asked, [by]: named.map((row) => row.key), group_by: `${axis},${by}` });
  const found = new Map(per.map((row) => [`${row.key} ${row.second_key}`, measure(metric, row)]));
  const series = named.map((row) => ({
    label: row.name ?? row.key,
    values: keys.map((key) => found.get(`${key} ${row.key}`) ?? 0),
  }));
  const rest = all.map((value, index) =>
    Math.max(0, value - series.reduce((sum, each) => sum + each.values[index], 0)),
  );
  const small = Math.max(...all, 0) / 100_000;
  if (rest.some((value) => value > small))
    series.push({ label: "Other", values: rest.map((value) => (value > small ? value : 0)), colour: 99 });
  return chart({ ...options, series, stacked: true });
}

async function step(source, asked) {
  const axis = stepOf(spanOf(asked));
  const answer = await source({ ...asked, group_by: axis, limit: ROWS_MAX });
  const rows = new Map(answer.data.map((row) => [row.key, row]));
  const first = answer.data[0]?.key;
  // All time begins with the first usage there is.
  const keys = keysOf(answer.period, axis).filter(
    (key) => asked.days === undefined || asked.days < 400 || (first && key >= first),
  );
  return { axis, rows, keys };
}

function spanOf({ days, start, end }) {
  if (days) return { start: 0, end: days * 86_400_000 };
  return { start, end: end ? new Date(new Date(end).getTime() + 86_400_000) : Date.now() };
}

async function pages(source, asked) {
  const rows = [];
  for (let page = 1; ; page += 1) {
    const answer = await source({ ...asked, limit: ROWS_MAX, page });
    rows.push(...answer.data);
    if (page >= answer.total_pages) return rows;
  }
}

/** The administrators' source of rows. */
export const everybody = (signal) => (params) => api.get("/admin/stats/by", params, signal);
/** A user's own. */
export const own = (signal) => (params) => api.get("/me/usage/by", params, signal);
