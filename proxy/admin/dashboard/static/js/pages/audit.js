// Who did what, when and from where.

import * as api from "../api.js";
import { here } from "../address.js";
import { h } from "../dom.js";
import * as format from "../format.js";
import { card, download, empty, head } from "../parts.js";
import { pager, table } from "../table.js";

const LIMIT = 50;
const KINDS = {
  "": "Everything",
  "user.": "Users",
  "group.": "Groups",
  "key.": "Keys",
  "quota.": "Quotas",
  "plan.": "Plans",
  "price.": "Prices",
  "admin_key.": "Admin keys",
  "session.": "Signing in",
};

export async function audit({ query, signal }) {
  const filters = { action: query.get("action"), actor: query.get("actor"), subject: query.get("subject") };
  const page = await api.get("/admin/audit", { ...filters, page: query.get("page"), limit: LIMIT }, signal);
  const go = (set) => dispatchEvent(new CustomEvent("follow", { detail: here({ ...set, page: null }) }));
  const kind = h(
    "select",
    { "aria-label": "Kind of action", onchange: () => go({ action: kind.value || null }) },
    Object.entries(KINDS).map(([value, label]) => h("option", { value }, label)),
  );
  kind.value = filters.action in KINDS ? filters.action : "";
  const chips = ["actor", "subject"]
    .filter((name) => filters[name])
    .map((name) =>
      h(
        "span",
        { class: "chip" },
        h("span", null, `${format.titled(name)}: ${filters[name]}`),
        h(
          "button",
          { type: "button", "aria-label": `Remove filter ${name}`, onclick: () => go({ [name]: null }) },
          "×",
        ),
      ),
    );
  return {
    title: "Audit log",
    node: [
      head("Audit log", {
        about: "Every change, and every read of personal data; nothing in it can be changed",
        tools: [download("Export", `/admin/export/audit${api.queryOf(filters)}`)],
      }),
      h("div", { class: "filters" }, kind, chips),
      card(
        "Entries",
        page.data.length
          ? [
              table(
                "Audit log, newest first",
                [
                  { label: "Time", show: (row) => h("span", { class: "nowrap" }, format.exactTime(row.at)) },
                  {
                    label: "Who",
                    show: (row) =>
                      h(
                        "a",
                        { class: "clip", title: row.actor, href: here({ actor: row.actor, page: null }) },
                        row.actor,
                      ),
                  },
                  { label: "Did", show: (row) => h("code", null, row.action) },
                  {
                    label: "To",
                    show: (row) =>
                      h(
                        "a",
                        { class: "clip", title: row.subject, href: here({ subject: row.subject, page: null }) },
                        row.subject,
                      ),
                  },
                  { label: "From", wide: true, show: (row) => row.address ?? h("span", { class: "muted" }, "–") },
                  { label: "Change", wide: true, show: detail },
                ],
                page.data,
              ),
              pager(page, "entry"),
            ]
          : empty("No entries", "Nothing like this was done."),
        { flush: true },
      ),
    ],
  };
}

function detail({ before, after }) {
  if (before === null && after === null) return null;
  const text = (value) => JSON.stringify(value, null, 2);
  return h(
    "details",
    { class: "change" },
    h("summary", null, before === null ? "Details" : "Before and after"),
    before !== null && h("pre", null, text(before)),
    after !== null && h("pre", null, text(after)),
  );
}
