// Models: what they cost, how well and how fast they answer.

import * as api from "../api.js";
import { filtersOf, here, periodOf } from "../address.js";
import { h } from "../dom.js";
import { currencyPicker, filterBar, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { card, empty, head } from "../parts.js";
import { usageCard } from "../profile.js";
import { sortedOf, sortHere, sortRows, table } from "../table.js";

const quantiles = (latency) => [
  format.duration(latency.p50_ms),
  h("span", { class: "sub" }, `p95 ${format.duration(latency.p95_ms)}`),
  h("span", { class: "sub" }, `p99 ${format.duration(latency.p99_ms)}`),
];

function counts(found) {
  const all = Object.values(found).reduce((sum, each) => sum + each, 0);
  return Object.entries(found)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 2)
    .map(([name, count]) => h("span", { class: "sub nowrap" }, `${name} ${format.percent(count / all)}`));
}

const COLUMNS = [
  {
    label: "Model",
    sort: "name",
    first: "asc",
    value: (row) => row.model,
    show: (row) => [
      h("a", { class: "nowrap", href: here({ model: row.model }) }, row.model || "not named"),
      row.sums.unpriced_requests > 0 && [
        " ",
        h(
          "span",
          { class: "tag warn", title: `${format.plural(row.sums.unpriced_requests, "request")} without a price` },
          "price unknown",
        ),
      ],
    ],
  },
  {
    label: "Requests",
    number: true,
    sort: "requests",
    value: (row) => row.sums.requests,
    show: (row) => format.number(row.sums.requests),
  },
  {
    label: "Success",
    number: true,
    wide: true,
    sort: "success",
    value: (row) => row.success_rate,
    show: (row) => format.percent(row.success_rate),
  },
  {
    label: "Cost",
    number: true,
    sort: "cost",
    value: (row) => Number(row.sums.cost_usd),
    show: (row) =>
      row.sums.requests === row.sums.unpriced_requests
        ? "unknown"
        : [
            format.cost(row.sums),
            row.sums.average_cost_usd && h("span", { class: "sub" }, `${format.cost(row.sums, "average_cost")} each`),
          ],
  },
  {
    label: "Tokens",
    number: true,
    wide: true,
    sort: "tokens",
    value: (row) => row.sums.total_tokens,
    show: (row) => [
      format.compact(row.sums.total_tokens),
      row.sums.cached_input_tokens > 0 &&
        h("span", { class: "sub" }, `${format.percent(row.sums.cache_hit_rate)} of input cached`),
    ],
  },
  {
    label: "First byte",
    number: true,
    wide: true,
    sort: "ttfb",
    value: (row) => row.ttfb.p50_ms,
    show: (row) => quantiles(row.ttfb),
  },
  {
    label: "Time taken",
    number: true,
    wide: true,
    sort: "duration",
    value: (row) => row.duration.p50_ms,
    show: (row) => quantiles(row.duration),
  },
  {
    label: "Tokens/s",
    number: true,
    wide: true,
    sort: "speed",
    value: (row) => row.output_tokens_per_second,
    show: (row) => format.perSecond(row.output_tokens_per_second || null),
  },
  { label: "Finished by", wide: true, show: (row) => counts(row.finish_reasons) },
];

export async function models({ query, signal }) {
  const period = periodOf(query);
  const filters = filtersOf(query);
  const { data } = await api.get("/admin/stats/performance", { ...period, ...filters }, signal);
  const sorted = sortedOf(query, "cost");
  return {
    title: "Models",
    node: [
      head("Models", {
        about: "Large numbers are medians; p95 is the time that 95 of 100 requests did not exceed",
        tools: [currencyPicker(data[0]?.sums), rangePicker(query)],
      }),
      filterBar(query, ["model", "user", "group", "operation", "endpoint", "provider", "key"]),
      h(
        "div",
        { class: "grid" },
        usageCard({ period, query, filters, signal, by: { model: "Model", user: "User", operation: "Operation" } }),
        card(
          "Performance",
          data.length
            ? table("Models' performance", COLUMNS, sortRows(data, COLUMNS, sorted), { sorted, onsort: sortHere })
            : empty("No usage in this time", "Choose a longer time, or other filters."),
          { flush: true },
        ),
      ),
    ],
  };
}
