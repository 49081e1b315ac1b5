// Endpoints and operations: a chart, and a table of each one's sums and averages.

import * as api from "../api.js";
import { filtersOf, here, periodOf } from "../address.js";
import { h } from "../dom.js";
import { currencyPicker, filterBar, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { card, empty, head } from "../parts.js";
import { usageCard } from "../profile.js";
import { pager, sortedOf, sortHere, table } from "../table.js";

const LIMIT = 50;

/** The columns that every table of sums has. */
export const sumColumns = () => [
  { label: "Requests", number: true, sort: "requests", show: (row) => format.number(row.requests) },
  {
    label: "Success",
    number: true,
    wide: true,
    show: (row) => format.percent(row.error_rate === null ? null : 1 - row.error_rate),
  },
  {
    label: "Tokens",
    number: true,
    wide: true,
    sort: "tokens",
    show: (row) => [
      format.compact(row.total_tokens),
      h("span", { class: "sub" }, `${format.number(Math.round(row.average_tokens ?? 0))} each`),
    ],
  },
  {
    label: "Cost",
    number: true,
    sort: "cost",
    show: (row) => [
      format.cost(row),
      row.average_cost_usd && h("span", { class: "sub" }, `${format.cost(row, "average_cost")} each`),
    ],
  },
  { label: "First byte", number: true, wide: true, show: (row) => format.duration(row.average_ttfb_ms) },
  {
    label: "Time taken",
    number: true,
    wide: true,
    sort: "duration",
    show: (row) => format.duration(row.average_duration_ms),
  },
  { label: "Cached input", number: true, wide: true, show: (row) => format.percent(row.cache_hit_rate) },
];

function page({ dimension, title, about, none, filterable }) {
  return async ({ query, signal }) => {
    const period = periodOf(query);
    const filters = filtersOf(query);
    const sorted = sortedOf(query, "cost");
    const found = await api.get(
      `/admin/stats/${dimension}s`,
      { ...period, ...filters, sort: sorted.by, order: sorted.order, page: query.get("page"), limit: LIMIT },
      signal,
    );
    const columns = [
      {
        label: title.slice(0, -1),
        sort: "name",
        first: "asc",
        show: (row) =>
          row.key
            ? h("a", { href: here({ [dimension]: row.key, page: null }) }, row.key)
            : h("span", { class: "muted" }, none),
      },
      ...sumColumns(),
      { label: "Users", number: true, wide: true, sort: "users", show: (row) => format.number(row.users) },
    ];
    return {
      title,
      node: [
        head(title, { about, tools: [currencyPicker(found.data[0]), rangePicker(query)] }),
        filterBar(query, filterable),
        h(
          "div",
          { class: "grid" },
          usageCard({
            period,
            query,
            filters,
            signal,
            by: { [dimension]: title.slice(0, -1), user: "User", model: "Model" },
          }),
          card(
            `All ${title.toLowerCase()}`,
            found.data.length
              ? [table(title, columns, found.data, { sorted, onsort: sortHere }), pager(found, dimension)]
              : empty("No usage in this time", "Choose a longer time, or other filters."),
            { flush: true },
          ),
        ),
      ],
    };
  };
}

export const endpoints = page({
  dimension: "endpoint",
  title: "Endpoints",
  about: "Which parts of the API are used",
  none: "unknown",
  filterable: ["user", "group", "model", "operation", "key"],
});
export const operations = page({
  dimension: "operation",
  title: "Operations",
  about: "What requests are for, as applications say with X-Usage-Operation",
  none: "not named",
  filterable: ["user", "group", "model", "endpoint", "key"],
});
