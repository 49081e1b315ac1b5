// The parts that the pages of one user and of one group share.

import { byUtc, here, link } from "./address.js";
import { chart } from "./charts.js";
import { h, put } from "./dom.js";
import * as format from "./format.js";
import { card, empty, later, quotaBar, ranked, SCOPES, segments, tile } from "./parts.js";
import { raiseQuota, removeQuota, rowButtons } from "./people.js";
import { recordTable } from "./records.js";
import { everybody, METRICS, usageOverTime } from "./series.js";
import { mayWrite } from "./session.js";

const SHOWN = 8;

/** Headline numbers of the period, with this month and all time below. */
export function profileTiles({ sums, month, overall }) {
  const times = (show) => ({ [byUtc("This month")]: show(month), "All time": show(overall) });
  return h(
    "div",
    { class: "tiles" },
    tile("Cost", format.cost(sums), { ever: times((row) => format.cost(row)) }),
    tile("Requests", format.compact(sums.requests), {
      ever: times((row) => format.compact(row.requests)),
      title: format.number(sums.requests),
    }),
    tile("Tokens", format.compact(sums.total_tokens), {
      ever: times((row) => format.compact(row.total_tokens)),
      title: format.number(sums.total_tokens),
    }),
    tile("Errors", format.compact(sums.errors), { ever: times((row) => format.percent(row.error_rate)) }),
    tile("Prompt cache", format.percent(sums.cache_hit_rate), {
      ever: times((row) => format.percent(row.cache_hit_rate)),
    }),
  );
}

/** A chart over the period whose measure and stacking can be chosen. */
export function usageCard({
  period,
  query,
  filters,
  signal,
  source = everybody(signal),
  by = { model: "Model", operation: "Operation" },
  title = "Usage over time",
}) {
  const chosen = { metric: query.get("metric") ?? "cost", by: query.get("by") ?? Object.keys(by)[0] };
  if (!(chosen.by in by)) chosen.by = Object.keys(by)[0];
  const place = h("div");
  const draw = () =>
    put(
      place,
      later(
        () =>
          usageOverTime({ period, query, filters, ...chosen, source, label: `${METRICS[chosen.metric]} over time` }),
        (made) => made,
        { signal },
      ),
    );
  const choose = (name) => (value) => {
    chosen[name] = value;
    history.replaceState(null, "", here({ [name]: value }));
    draw();
  };
  draw();
  return card(title, place, {
    tools: [
      segments("Measure", METRICS, chosen.metric, choose("metric")),
      segments("Stacked by", by, chosen.by, choose("by")),
    ],
  });
}

/** Cost by month, all time. */
export function monthsCard(months) {
  const body = months.length
    ? chart({
        label: "Cost by month",
        keys: months.map((row) => row.key),
        name: format.period,
        low: true,
        value: (value) => format.money(value, format.amount(months[0])[1]),
        series: [{ label: "Cost", values: months.map((row) => Number(format.amount(row)[0])) }],
      })
    : h("p", { class: "muted" }, "No usage yet.");
  return card("By month", body, { about: "All time" });
}

/** What a subject's usage consists of. */
export function parts(title, rows, href = null) {
  const used = rows.filter((row) => row.requests);
  if (!used.length) return card(title, h("p", { class: "muted" }, "No usage in this time."));
  return card(
    title,
    ranked(
      used.slice(0, SHOWN).map((row) => ({
        label: row.name ?? (row.key || "not named"),
        href: href?.(row),
        value: Number(row.cost_usd),
        text: format.cost(row),
        more: `${format.compact(row.requests)} req.`,
      })),
      `${title} by cost`,
    ),
    { about: used.length > SHOWN ? `The first ${SHOWN} of ${used.length}` : null },
  );
}

/** Quotas with their use; `own` are the subject's rows, which can be raised and removed. */
export function quotaCard(quotas, own, again, hint) {
  const rows = new Map(own.map((row) => [row.id, row]));
  const entry = (quota) => {
    const row = rows.get(quota.id);
    const raised = row?.raised_limit && new Date(row.raised_until) > new Date();
    return h(
      "div",
      { "data-quota-id": quota.id },
      quotaBar(quota, { name: quota.id.startsWith("plan:") ? "Plan" : SCOPES[quota.scope] }),
      raised &&
        h(
          "p",
          { class: "small" },
          h("span", { class: "tag warn" }, `raised until ${format.dateTime(row.raised_until)}`),
        ),
      row &&
        mayWrite() &&
        rowButtons("this quota", [
          ["Raise for a while", () => raiseQuota(row, again)],
          ["Remove", () => removeQuota(row, again), "danger"],
        ]),
    );
  };
  return card(
    "Quotas",
    quotas.length ? h("div", { class: "quotas" }, quotas.map(entry)) : empty("No quota binds", hint),
  );
}

/** The newest requests, and the way to all of them. */
export function requestsCard(rows, filters) {
  return card(
    "Recent requests",
    rows.length
      ? recordTable("Recent requests", rows.slice(0, 20), { who: filters.user === undefined })
      : h("p", { class: "muted" }, "No request in this time."),
    { flush: true, tools: [h("a", { class: "small", href: link("/requests", filters) }, "All requests")] },
  );
}
