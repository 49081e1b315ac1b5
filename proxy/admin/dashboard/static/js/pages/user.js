// One user: usage, quotas, keys, requests, and what can be changed.

import * as api from "../api.js";
import { link, periodOf } from "../address.js";
import { h } from "../dom.js";
import { currencyPicker, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { card, download, facts, head } from "../parts.js";
import { editQuotas, editUser, issueKey } from "../people.js";
import { keysCard } from "./keys.js";
import { monthsCard, parts, profileTiles, quotaCard, requestsCard, usageCard } from "../profile.js";
import { mayWrite } from "../session.js";

export async function user({ params, query, signal, again }) {
  const period = periodOf(query);
  const path = `/admin/users/${encodeURIComponent(params.id)}`;
  const [seen, keys, own] = await Promise.all([
    api.get(`${path}/usage`, period, signal),
    api.get(`${path}/keys`, { limit: 200 }, signal),
    api.get("/admin/quotas", { scope: "user", scope_id: params.id }, signal),
  ]);
  const who = seen.user;
  const name = who.name ?? who.id;
  const filters = { user: who.id };
  return {
    title: name,
    node: [
      head(name, {
        crumb: { path: "/users", label: "Users" },
        about: [who.email, !who.active && [" ", h("span", { class: "tag warn" }, "deactivated")]],
        tools: [
          currencyPicker(seen.sums),
          rangePicker(query),
          download("Export", `/admin/export/records${api.queryOf({ ...period, user: who.id })}`),
          mayWrite() && [
            h("button", { type: "button", class: "button", onclick: () => editUser(who, again) }, "Change"),
            h(
              "button",
              { type: "button", class: "button", onclick: () => editQuotas("users", who, own.data, again) },
              "Set quotas",
            ),
            h("button", { type: "button", class: "button primary", onclick: () => issueKey(who, again) }, "Issue key"),
          ],
        ],
      }),
      h(
        "div",
        { class: "grid" },
        profileTiles(seen),
        usageCard({ period, query, filters, signal }),
        h(
          "div",
          { class: "half stack" },
          quotaCard(seen.quotas, own.data, again, "This user may use as much as everyone."),
        ),
        h("div", { class: "half stack" }, monthsCard(seen.months)),
        h("div", { class: "half stack" }, parts("Models", seen.models)),
        h("div", { class: "half stack" }, parts("Operations", seen.operations)),
        keysCard(keys.data, again, { user: who }),
        requestsCard(seen.last_requests, filters),
        card(
          "About",
          facts([
            ["Id", h("code", null, who.id)],
            ["External id", who.external_id],
            ["E-mail", who.email],
            ["Group", who.group && h("a", { href: link(`/groups/${who.group}`) }, who.group_name)],
            ["Plan", who.plan && h("a", { href: link(`/plans/${who.plan}`) }, who.plan_name)],
            [
              "Tags",
              Object.entries(who.tags)
                .map(([tag, value]) => `${tag}=${value}`)
                .join(", "),
            ],
            ["Created", format.dateTime(who.created_at)],
            ["First request", format.dateTime(seen.overall.first_request_at)],
            ["Last request", format.dateTime(seen.overall.last_request_at)],
          ]),
        ),
      ),
    ],
  };
}
