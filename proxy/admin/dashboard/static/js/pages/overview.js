// The first page: what happened, who and what it was, where it leads.

import * as api from "../api.js";
import { RANGES, byUtc, current, filtersOf, here, link, periodOf, rangeOf } from "../address.js";
import { h, put } from "../dom.js";
import { currencyPicker, filterBar, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { bar, card, delta, empty, facts, head, later, quotaBar, ranked, segments, SCOPES, tile } from "../parts.js";
import { liveTail } from "../records.js";
import { everybody, METRICS, usageOverTime } from "../series.js";

const BY = { model: "Model", user: "User", group: "Group", operation: "Operation" };
const TOP = 6;
const WATCHED = 6;
const FILTERABLE = ["user", "group", "model", "operation", "endpoint", "key", "provider", "status"];

const FIRST = [
  "Create a user, issue a key for them, and give it to an application together with this proxy's address as ",
  h("code", null, "OPENAI_BASE_URL"),
  ". To look around first, ",
  h("code", null, "openai-proxy demo-data"),
  " fills an empty database with three months of make-believe usage.",
];

export async function overview({ query, signal }) {
  const period = periodOf(query);
  const filters = filtersOf(query);
  const asked = { ...period, ...filters };
  const data = await api.bulk(
    {
      overview: ["/admin/stats/overview", asked],
      ever: ["/admin/stats", {}],
      users: ["/admin/stats/top/users", { ...asked, limit: TOP }],
      models: ["/admin/stats/models", { ...asked, limit: TOP }],
      operations: ["/admin/stats/operations", { ...asked, limit: TOP }],
      trends: ["/admin/stats/trends", { ...filters, days: 7, tz: period.tz }],
      errors: ["/admin/stats/errors", asked],
    },
    signal,
  );
  const seen = api.sound(data.overview);
  const filtered = Object.keys(filters).length > 0;
  const node = [
    head("Overview", { tools: [currencyPicker(seen.sums), rangePicker(query)] }),
    filterBar(query, FILTERABLE, { names: namesIn(data) }),
  ];
  if (!seen.sums.requests && !api.sound(data.ever).overall.requests)
    return { title: "Overview", node: [node[0], firstSteps()] };
  node.push(
    h(
      "div",
      { class: "grid" },
      tiles(seen, filtered ? null : api.sound(data.ever), query),
      usageCard(query, period, signal),
      h(
        "div",
        { class: "third stack" },
        card(
          "Top users",
          rankedBy(data.users, (row) => link(`/users/${row.key}`), "Top users by cost"),
          { tools: [more("/users")] },
        ),
      ),
      h(
        "div",
        { class: "third stack" },
        card(
          "Top models",
          rankedBy(data.models, (row) => here({ model: row.key }), "Top models by cost"),
          { tools: [more("/models")] },
        ),
      ),
      h(
        "div",
        { class: "third stack" },
        card(
          "Top operations",
          rankedBy(data.operations, (row) => row.key && here({ operation: row.key }), "Top operations by cost"),
          { tools: [more("/operations")] },
        ),
      ),
      h("div", { class: "half stack" }, quotaCard(data.users, signal)),
      h("div", { class: "half stack" }, forecastCard(data, seen), errorCard(data.errors)),
      liveCard(filters, signal),
    ),
  );
  return { title: "Overview", node };
}

const namesIn = (data) => Object.fromEntries((data.users.data ?? []).map((row) => [row.key, row.name ?? row.key]));
const more = (path) =>
  h("a", { class: "small", href: link(path) }, "All", h("span", { class: "unseen" }, ` ${path.slice(1)}`));

function firstSteps() {
  return h(
    "div",
    { class: "card" },
    empty(
      "Nothing has been asked yet",
      FIRST,
      h("a", { class: "button primary", href: link("/users") }, "Create a user"),
    ),
  );
}

function tiles({ sums, before, users }, ever, query) {
  const times = (pick) =>
    ever && {
      [byUtc("Today")]: pick(ever.today),
      [byUtc("This month")]: pick(ever.month),
      "All time": pick(ever.overall),
    };
  const versus =
    RANGES[rangeOf(query)] === "All time"
      ? () => null
      : (name, rise) => [
          delta(Number(sums[name]), Number(before[name]), rise),
          h("span", null, "on the period before"),
        ];
  return h(
    "div",
    { class: "tiles" },
    tile("Cost", format.cost(sums), {
      versus: versus("cost_usd"),
      ever: times((row) => format.cost(row)),
      title: `${sums.cost_usd} USD`,
    }),
    tile("Requests", format.compact(sums.requests), {
      versus: versus("requests"),
      ever: times((row) => format.compact(row.requests)),
      title: format.number(sums.requests),
    }),
    tile("Tokens", format.compact(sums.total_tokens), {
      versus: versus("total_tokens"),
      ever: times((row) => format.compact(row.total_tokens)),
      title: format.number(sums.total_tokens),
    }),
    tile("Active users", format.number(users.active), {
      versus: `${format.number(users.new)} new, ${format.number(users.returning)} returning`,
      ever: times((row) => format.number(row.users)),
    }),
    tile("Errors", format.compact(sums.errors), {
      versus: [
        delta(sums.errors, before.errors, "bad"),
        h("span", null, `${format.percent(sums.error_rate)} of requests`),
      ],
      ever: times((row) => format.compact(row.errors)),
      title: format.number(sums.errors),
    }),
  );
}

function usageCard(query, period, signal) {
  const chosen = { metric: query.get("metric") ?? "cost", by: query.get("by") ?? "model" };
  const place = h("div");
  const draw = () =>
    put(
      place,
      later(
        () =>
          usageOverTime({
            period,
            query: current(),
            ...chosen,
            source: everybody(signal),
            label: `${METRICS[chosen.metric]} over time`,
          }),
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
  return card("Usage over time", place, {
    tools: [
      segments("Measure", METRICS, chosen.metric, choose("metric")),
      segments("Stacked by", BY, chosen.by, choose("by")),
    ],
  });
}

function rankedBy(answer, href, label) {
  if (answer instanceof api.ApiError) return h("p", { class: "muted" }, answer.message);
  const rows = answer.data.filter((row) => row.requests);
  if (!rows.length) return h("p", { class: "muted" }, "No usage in this time.");
  return ranked(
    rows.map((row) => ({
      label: row.name ?? (row.key || "not named"),
      href: href(row),
      value: Number(row.cost_usd),
      text: format.cost(row),
      more: `${format.compact(row.requests)} req.`,
    })),
    label,
  );
}

function forecastCard(data, seen) {
  const rows = [];
  if (!(data.trends instanceof api.ApiError)) {
    const { forecast } = data.trends;
    const month = api.sound(data.ever).month;
    const expected = Number(forecast.cost_usd);
    rows.push(
      h(
        "div",
        { class: "quota" },
        h(
          "div",
          { class: "line" },
          h("strong", null, `${format.cost(forecast)} by the end of ${format.period(forecast.month)}`),
          h("span", null, `${format.cost(month)} so far`),
        ),
        bar(expected ? Number(month.cost_usd) / expected : 0),
        h(
          "div",
          { class: "note" },
          `${format.compact(forecast.requests)} requests and ${format.compact(forecast.total_tokens)} tokens, at the pace of the last seven days`,
        ),
      ),
    );
  }
  rows.push(
    facts([
      ["Prompt cache", `${format.percent(seen.sums.cache_hit_rate)} of input tokens came from it`],
      ["It saved", h("strong", null, format.cost(seen.sums, "cache_saved"))],
      [
        "Average request",
        seen.sums.requests
          ? [
              format.cost(seen.sums, "average_cost"),
              `${format.number(Math.round(seen.sums.average_tokens))} tokens`,
              format.duration(seen.sums.average_duration_ms),
            ].join(", ")
          : null,
      ],
      [
        "Price unknown",
        seen.sums.unpriced_requests
          ? [
              h("a", { href: link("/models") }, format.plural(seen.sums.unpriced_requests, "request")),
              ", not in the cost",
            ]
          : null,
      ],
    ]),
  );
  return card("Forecast and savings", h("div", { class: "stack" }, rows));
}

function errorCard(answer) {
  if (answer instanceof api.ApiError) return null;
  const rows = answer.by_code.slice(0, 4);
  return card(
    "Errors",
    rows.length
      ? ranked(
          rows.map((row) => ({
            label: `${row.status || "No answer"} ${row.error_code ?? row.outcome.replaceAll("_", " ")}`,
            value: row.requests,
            text: format.number(row.requests),
          })),
          "Errors by kind",
        )
      : h("p", { class: "muted" }, "No request failed in this time."),
    { tools: [more("/errors")] },
  );
}

function quotaCard(top, signal) {
  const load = async () => {
    const users = (top.data ?? []).slice(0, WATCHED);
    const found = new Map();
    await Promise.all(
      users.map(async (row) => {
        const { data } = await api.get(`/admin/users/${encodeURIComponent(row.key)}/quotas`, {}, signal);
        for (const quota of data)
          found.set(`${quota.id} ${quota.scope_id}`, { ...quota, of: quota.scope === "user" ? (row.name ?? row.key) : null });
      }),
    );
    const groups = [...found.values()].some((quota) => quota.scope === "group")
      ? (await api.get("/admin/groups", { limit: 200 }, signal)).data
      : [];
    const names = new Map(groups.map((group) => [group.id, group.name]));
    return [...found.values()]
      .map((quota) => ({ ...quota, of: quota.of ?? names.get(quota.scope_id) ?? SCOPES[quota.scope] }))
      .sort((a, b) => part(b) - part(a))
      .slice(0, 8);
  };
  return card(
    "Spend against quotas",
    later(
      load,
      (quotas) =>
        quotas.length
          ? h(
              "div",
              { class: "quotas" },
              quotas.map((quota) => quotaBar(quota, { name: quota.of })),
            )
          : empty(
              "No quotas bind the top users",
              "Set one for a user, a group or everyone, or put users on a plan.",
              h("a", { class: "button", href: link("/quotas") }, "Quotas and plans"),
            ),
      { signal },
    ),
    { about: "Everyone's, and those of the top users and their groups", tools: [more("/quotas")] },
  );
}

const part = (quota) => (Number(quota.limit) ? Number(quota.used) / Number(quota.limit) : 0);

function liveCard(filters, signal) {
  const tools = h("div", { class: "actions" });
  const body = later(
    () => api.get("/admin/records", { ...filters, days: 30, limit: 12 }, signal),
    ({ data }) => {
      const tail = liveTail({ first: data, filters, signal });
      put(tools, tail.tools);
      return tail.node;
    },
    { signal, optional: true },
  );
  return card("Live requests", body, { tools: [tools], flush: true });
}
