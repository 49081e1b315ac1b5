// Groups: all of them, and one.

import * as api from "../api.js";
import { link, periodOf } from "../address.js";
import { h } from "../dom.js";
import { currencyPicker, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { draw } from "../icons.js";
import { card, download, empty, facts, head } from "../parts.js";
import { editGroup, editQuotas } from "../people.js";
import { monthsCard, parts, profileTiles, quotaCard, requestsCard, usageCard } from "../profile.js";
import { everywhere, mayWrite } from "../session.js";
import { pager, sortedOf, sortHere, sortRows, table } from "../table.js";
import { searchBox } from "./users.js";

const LIMIT = 50;

export async function groups({ query, signal, again }) {
  const period = periodOf(query);
  const search = query.get("search") ?? "";
  const page = await api.get("/admin/groups", { search, page: query.get("page"), limit: LIMIT }, signal);
  const ids = page.data.map((group) => group.id);
  const used = ids.length
    ? await api.get("/admin/stats/groups", { ...period, group: ids, limit: LIMIT }, signal)
    : { data: [] };
  const sums = new Map(used.data.map((row) => [row.key, row]));
  const sorted = sortedOf(query, "cost");
  const rows = page.data.map((group) => ({
    ...group,
    sums: sums.get(group.id) ?? {
      requests: 0,
      total_tokens: 0,
      cost_usd: "0",
      errors: 0,
      error_rate: null,
      users: 0,
      last_request_at: null,
    },
  }));
  const columns = [
    {
      label: "Group",
      sort: "name",
      first: "asc",
      value: (row) => row.name,
      show: (row) =>
        h(
          "a",
          { href: link(`/groups/${row.id}`) },
          row.name,
          !row.active && [" ", h("span", { class: "tag" }, "deactivated")],
        ),
    },
    {
      label: "Users",
      number: true,
      sort: "users",
      value: (row) => row.users,
      show: (row) => [format.number(row.users), h("span", { class: "sub" }, `${format.number(row.sums.users)} active`)],
    },
    {
      label: "Requests",
      number: true,
      wide: true,
      sort: "requests",
      value: (row) => row.sums.requests,
      show: (row) => format.number(row.sums.requests),
    },
    {
      label: "Tokens",
      number: true,
      wide: true,
      sort: "tokens",
      value: (row) => row.sums.total_tokens,
      show: (row) => format.compact(row.sums.total_tokens),
    },
    {
      label: "Cost",
      number: true,
      sort: "cost",
      value: (row) => Number(row.sums.cost_usd),
      show: (row) => format.cost(row.sums),
    },
    {
      label: "Errors",
      number: true,
      wide: true,
      sort: "errors",
      value: (row) => row.sums.error_rate,
      show: (row) => format.percent(row.sums.error_rate),
    },
    { label: "Plan", wide: true, show: (row) => row.plan_name ?? h("span", { class: "muted" }, "none") },
    {
      label: "Last active",
      number: true,
      wide: true,
      sort: "last_at",
      value: (row) => row.sums.last_request_at,
      show: (row) => format.since(row.sums.last_request_at),
    },
  ];
  const create =
    mayWrite() &&
    everywhere() &&
    h(
      "button",
      { type: "button", class: "button primary", onclick: () => editGroup(null, again) },
      draw("plus"),
      "New group",
    );
  return {
    title: "Groups",
    node: [
      head("Groups", {
        about: "Teams, schools or tenants of users",
        tools: [currencyPicker(used.data[0]), rangePicker(query), create],
      }),
      h("div", { class: "filters" }, searchBox(search, "Search groups")),
      card(
        "All groups",
        rows.length
          ? [
              table("Groups", columns, sortRows(rows, columns, sorted), {
                sorted,
                onsort: sortHere,
                link: (row) => link(`/groups/${row.id}`),
              }),
              pager(page, "group"),
            ]
          : empty(
              search ? "No group is called that" : "No groups yet",
              "A group gathers users: a team or a school. It can have quotas and a plan of its own.",
            ),
        { flush: true },
      ),
    ],
  };
}

export async function group({ params, query, signal, again }) {
  const period = periodOf(query);
  const path = `/admin/groups/${encodeURIComponent(params.id)}`;
  const [seen, own] = await Promise.all([
    api.get(`${path}/usage`, period, signal),
    api.get(`${path}/quotas`, {}, signal),
  ]);
  const what = seen.group;
  const filters = { group: what.id };
  const names = await namesOf(seen.users, signal);
  return {
    title: what.name,
    node: [
      head(what.name, {
        crumb: { path: "/groups", label: "Groups" },
        about: [
          format.plural(what.users, "user"),
          !what.active && [" ", h("span", { class: "tag warn" }, "deactivated")],
        ],
        tools: [
          currencyPicker(seen.sums),
          rangePicker(query),
          download("Export", `/admin/export/records${api.queryOf({ ...period, group: what.id })}`),
          mayWrite() &&
            everywhere() && [
              h("button", { type: "button", class: "button", onclick: () => editGroup(what, again) }, "Change"),
              h(
                "button",
                { type: "button", class: "button", onclick: () => editQuotas("groups", what, own.data, again) },
                "Set quotas",
              ),
            ],
        ],
      }),
      h(
        "div",
        { class: "grid" },
        profileTiles(seen),
        usageCard({ period, query, filters, signal, by: { user: "User", model: "Model", operation: "Operation" } }),
        h(
          "div",
          { class: "half stack" },
          quotaCard(seen.quotas, own.data, again, "This group may use as much as everyone."),
        ),
        h("div", { class: "half stack" }, monthsCard(seen.months)),
        h(
          "div",
          { class: "third stack" },
          parts(
            "Users",
            seen.users.map((row) => ({ ...row, name: names.get(row.key) })),
            (row) => link(`/users/${row.key}`),
          ),
        ),
        h("div", { class: "third stack" }, parts("Models", seen.models)),
        h("div", { class: "third stack" }, parts("Operations", seen.operations)),
        requestsCard(seen.last_requests, filters),
        card(
          "About",
          facts([
            ["Id", h("code", null, what.id)],
            ["External id", what.external_id],
            ["Plan", what.plan && h("a", { href: link(`/plans/${what.plan}`) }, what.plan_name)],
            [
              "Tags",
              Object.entries(what.tags)
                .map(([tag, value]) => `${tag}=${value}`)
                .join(", "),
            ],
            ["Created", format.dateTime(what.created_at)],
            ["First request", format.dateTime(seen.overall.first_request_at)],
            ["Last request", format.dateTime(seen.overall.last_request_at)],
          ]),
        ),
      ),
    ],
  };
}

async function namesOf(rows, signal) {
  const ids = rows.slice(0, 50).map((row) => row.key);
  if (!ids.length || rows[0].name !== undefined) return new Map(rows.map((row) => [row.key, row.name]));
  const { data } = await api.get("/admin/stats/users", { user: ids, days: 3660, limit: 50 }, signal);
  return new Map(data.map((row) => [row.key, row.name]));
}
