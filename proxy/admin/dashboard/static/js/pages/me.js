// What a user sees with a proxy key: own usage, own quotas, own requests.

import * as api from "../api.js";
import { byUtc, filtersOf, link, periodOf } from "../address.js";
import { h } from "../dom.js";
import { currencyPicker, filterBar, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { card, empty, facts, head, quotaBar, SCOPES, tile } from "../parts.js";
import { parts, usageCard } from "../profile.js";
import { recordTable } from "../records.js";
import { own } from "../series.js";
import { history } from "./requests.js";

export async function myUsage({ query, signal }) {
  const period = periodOf(query);
  const [me, used, models, operations, recent] = await Promise.all([
    api.get("/me", {}, signal),
    api.get("/me/usage", period, signal),
    api.get("/me/usage/by", { ...period, group_by: "model" }, signal),
    api.get("/me/usage/by", { ...period, group_by: "operation" }, signal),
    api.get("/me/requests", { ...period, limit: 15 }, signal),
  ]);
  const times = (show) => ({ [byUtc("Today")]: show(me.today), [byUtc("This month")]: show(me.month) });
  const { sums } = used;
  return {
    title: "My usage",
    node: [
      head("My usage", {
        about: [me.user.name ?? me.user.id, me.user.group_name].filter(Boolean).join(" · "),
        tools: [currencyPicker(sums), rangePicker(query)],
      }),
      h(
        "div",
        { class: "grid" },
        h(
          "div",
          { class: "tiles" },
          tile("Cost", format.cost(sums), { ever: times((row) => format.cost(row)) }),
          tile("Requests", format.compact(sums.requests), { ever: times((row) => format.compact(row.requests)) }),
          tile("Tokens", format.compact(sums.total_tokens), { ever: times((row) => format.compact(row.total_tokens)) }),
          tile("Errors", format.compact(sums.errors), { ever: times((row) => format.compact(row.errors)) }),
          tile("Prompt cache", format.percent(sums.cache_hit_rate), {
            ever: times((row) => format.percent(row.cache_hit_rate)),
          }),
        ),
        card(
          "My quotas",
          me.quotas.length
            ? h(
                "div",
                { class: "quotas" },
                me.quotas.map((quota) =>
                  quotaBar(quota, { name: quota.scope === "user" ? null : SCOPES[quota.scope] }),
                ),
              )
            : empty("No quota binds you", "You may use as much as you need."),
        ),
        usageCard({ period, query, filters: {}, signal, source: own(signal) }),
        h("div", { class: "half stack" }, parts("Models", models.data)),
        h("div", { class: "half stack" }, parts("Operations", operations.data)),
        card(
          "Recent requests",
          recent.data.length
            ? recordTable("Recent requests", recent.data, { who: false })
            : empty(
                "No requests in this time",
                "Send one with your key: set OPENAI_BASE_URL to this proxy's address and OPENAI_API_KEY to your key.",
              ),
          { flush: true, tools: [h("a", { class: "small", href: link("/requests") }, "All requests")] },
        ),
        card(
          "My key",
          facts([
            ["Name", me.key.name],
            ["Key", h("code", null, me.key.masked)],
            ["Expires", me.key.expires_at ? format.dateTime(me.key.expires_at) : "never"],
          ]),
        ),
      ),
    ],
  };
}

export async function myRequests({ query, signal }) {
  const period = periodOf(query);
  const filters = filtersOf(query);
  const page = await api.get("/me/requests", { ...period, ...filters, cursor: query.get("cursor"), limit: 50 }, signal);
  return {
    title: "My requests",
    node: [
      head("My requests", { tools: [currencyPicker(page.data[0]), rangePicker(query)] }),
      filterBar(query, ["model", "operation", "endpoint", "status", "end_user"]),
      card("History", history(page, query, { who: false }), { flush: true }),
    ],
  };
}
