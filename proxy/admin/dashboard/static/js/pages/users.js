// All users: who they are and what they use.

import * as api from "../api.js";
import { filtersOf, here, link, periodOf } from "../address.js";
import { h, put } from "../dom.js";
import { currencyPicker, filterBar, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { card, download, empty, head, quotaBar } from "../parts.js";
import { editUser } from "../people.js";
import { mayWrite } from "../session.js";
import { pager, sortedOf, sortHere, table } from "../table.js";
import { draw } from "../icons.js";

const LIMIT = 25;
const AT_ONCE = 4;
const STATS = ["requests", "total_tokens", "errors", "error_rate", "last_request_at"];

export async function users({ query, signal, again }) {
  const period = periodOf(query);
  const search = query.get("search") ?? "";
  const everyone = query.get("show") === "all" || Boolean(search);
  const sorted = sortedOf(query, "cost");
  const filters = filtersOf(query);
  const page = Number(query.get("page") ?? 1);
  const found = everyone
    ? await listed({ search, page, period, filters, signal })
    : await active({ period, filters, sorted, page, signal });
  const rows = found.data;
  const body = rows.length
    ? [usersTable(rows, everyone ? null : sorted), pager(found, "user")]
    : nothing(search, again);
  if (rows.length) quotasOf(rows, body[0], signal);
  return {
    title: "Users",
    node: [
      head("Users", {
        tools: [
          currencyPicker(found.data[0]),
          rangePicker(query),
          download("Export", `/admin/export/users${api.queryOf({ ...period, ...filters })}`),
          mayWrite() && newUser(again),
        ],
      }),
      h("div", { class: "filters" }, searchBox(search, "Search names, e-mail, ids"), showAll(query)),
      filterBar(query, ["group", "model", "operation", "endpoint"]),
      card(everyone ? "All users" : "Active users", body, {
        flush: true,
        about: everyone ? "Their usage in this time, those without any too" : "Users with a request in this time",
      }),
    ],
  };
}

/** A search field that fills `search` in the address. */
export function searchBox(value, label) {
  const input = h("input", { type: "search", name: "search", value, placeholder: label, "aria-label": label });
  return h(
    "form",
    {
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        dispatchEvent(new CustomEvent("follow", { detail: here({ search: input.value.trim() || null, page: null }) }));
      },
    },
    input,
  );
}

function showAll(query) {
  const all = query.get("show") === "all";
  return h(
    "a",
    { class: "button slim", href: here({ show: all ? null : "all", page: null, search: null }) },
    all ? "Only active ones" : "Show all users",
  );
}

const newUser = (again) =>
  h(
    "button",
    {
      type: "button",
      class: "button primary",
      onclick: () =>
        editUser(null, (made) =>
          made?.id ? dispatchEvent(new CustomEvent("follow", { detail: link(`/users/${made.id}`) })) : again(),
        ),
    },
    draw("plus"),
    "New user",
  );

const nothing = (search, again) =>
  search
    ? empty(
        "Nobody is called that",
        "Search finds names, e-mail addresses, ids and external ids.",
        h("a", { class: "button", href: here({ search: null }) }, "Clear the search"),
      )
    : empty(
        "No usage in this time",
        "Choose a longer time or other filters, show all users, or create one.",
        mayWrite() && newUser(again),
      );

async function active({ period, filters, sorted, page, signal }) {
  return api.get(
    "/admin/stats/users",
    { ...period, ...filters, sort: sorted.by, order: sorted.order, page, limit: LIMIT },
    signal,
  );
}

async function listed({ search, page, period, filters, signal }) {
  const people = await api.get("/admin/users", { search, page, limit: LIMIT, group: filters.group }, signal);
  const ids = people.data.map((person) => person.id);
  const used = ids.length
    ? await api.get("/admin/stats/users", { ...period, ...filters, user: ids, limit: LIMIT }, signal)
    : { data: [] };
  const sums = new Map(used.data.map((row) => [row.key, row]));
  const zero = Object.fromEntries(
    STATS.map((name) => [name, name === "last_request_at" || name === "error_rate" ? null : 0]),
  );
  return {
    ...people,
    data: people.data.map((person) => ({
      ...zero,
      cost_usd: "0",
      ...sums.get(person.id),
      key: person.id,
      name: person.name,
      email: person.email,
      active: person.active,
    })),
  };
}

function usersTable(rows, sorted) {
  return table(
    "Users",
    [
      {
        label: "User",
        sort: "name",
        first: "asc",
        show: (row) =>
          h(
            "a",
            { href: link(`/users/${row.key}`) },
            row.name ?? row.key,
            row.active === false && [" ", h("span", { class: "tag" }, "deactivated")],
            row.email && h("span", { class: "sub clip" }, row.email),
          ),
      },
      { label: "Requests", number: true, sort: "requests", show: (row) => format.number(row.requests) },
      { label: "Tokens", number: true, wide: true, sort: "tokens", show: (row) => format.compact(row.total_tokens) },
      { label: "Cost", number: true, sort: "cost", show: (row) => format.cost(row) },
      {
        label: "Errors",
        number: true,
        sort: "errors",
        wide: true,
        show: (row) => (row.errors ? `${format.number(row.errors)} (${format.percent(row.error_rate)})` : "0"),
      },
      {
        label: "Last active",
        number: true,
        sort: "last_at",
        wide: true,
        show: (row) => h("span", { title: format.exactTime(row.last_request_at) }, format.since(row.last_request_at)),
      },
      {
        label: "Tightest quota",
        wide: true,
        show: (row) => h("div", { "data-quota": row.key }, h("span", { class: "muted" }, "…")),
      },
    ],
    rows,
    { sorted, onsort: sorted && sortHere, link: (row) => link(`/users/${row.key}`) },
  );
}

/** Fill in the quota bars, a few requests at a time; each shows the quota that is nearest to its limit. */
async function quotasOf(rows, node, signal) {
  const waiting = [...rows];
  const one = async () => {
    for (let row = waiting.shift(); row && !signal.aborted; row = waiting.shift()) {
      const place = node.querySelector(`[data-quota="${CSS.escape(row.key)}"]`);
      try {
        const { data } = await api.get(`/admin/users/${encodeURIComponent(row.key)}/quotas`, {}, signal);
        const own = data.filter((quota) => quota.scope === "user" || quota.scope === "key");
        const tightest = own.sort((a, b) => b.used / b.limit - a.used / a.limit)[0];
        put(place, tightest ? quotaBar(tightest, { slim: true }) : h("span", { class: "muted" }, "none"));
      } catch (error) {
        if (error.name === "AbortError") return;
        put(place, h("span", { class: "muted" }, "–"));
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}
