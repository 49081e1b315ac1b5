// Keys of administrators.

import * as api from "../api.js";
import { h } from "../dom.js";
import * as format from "../format.js";
import { confirm, form, showSecret } from "../forms.js";
import { draw } from "../icons.js";
import { notice } from "../notice.js";
import { card, empty, head } from "../parts.js";
import { rowButtons } from "../people.js";
import { mayWrite, session } from "../session.js";
import { pager, table } from "../table.js";

export async function admins({ query, signal, again }) {
  const [page, groups] = await Promise.all([
    api.get("/admin/admin_keys", { page: query.get("page"), limit: 100 }, signal),
    api.get("/admin/groups", { limit: 1000 }, signal),
  ]);
  const names = new Map(groups.data.map((group) => [group.id, group.name]));
  return {
    title: "Admin keys",
    node: [
      head("Admin keys", {
        about: "They open the admin API and this dashboard, never the OpenAI API",
        tools:
          mayWrite() &&
          h(
            "button",
            { type: "button", class: "button primary", onclick: () => create(groups.data, again) },
            draw("plus"),
            "New admin key",
          ),
      }),
      card(
        "Admin keys",
        page.data.length
          ? [
              table(
                "Admin keys",
                [
                  {
                    label: "Key",
                    show: (row) => [
                      row.name,
                      row.id === session().id && [" ", h("span", { class: "tag good" }, "yours")],
                      h("code", { class: "sub" }, row.masked),
                    ],
                  },
                  {
                    label: "May",
                    show: (row) => [
                      row.scope === "write" ? "read and change" : "read",
                      h(
                        "span",
                        { class: "sub" },
                        row.group ? `only ${names.get(row.group) ?? row.group}` : "everything",
                      ),
                    ],
                  },
                  { label: "State", show: state },
                  { label: "Created", wide: true, show: (row) => format.date(row.created_at) },
                  mayWrite() && {
                    label: "",
                    show: (row) =>
                      ended(row) ? null : rowButtons(row.name, [["Revoke", () => revoke(row, again), "danger"]]),
                  },
                ].filter(Boolean),
                page.data,
              ),
              pager(page, "key"),
            ]
          : empty("No admin keys", "Only tokens open the admin API here."),
        { flush: true },
      ),
    ],
  };
}

const past = (text) => text !== null && new Date(text) <= new Date();
const ended = (row) => past(row.revoked_at) || past(row.expires_at);
const state = (row) =>
  h(
    "span",
    { class: ended(row) ? "tag" : "tag good" },
    past(row.revoked_at)
      ? "revoked"
      : past(row.expires_at)
        ? "expired"
        : row.expires_at
          ? `until ${format.dateTime(row.expires_at)}`
          : "live",
  );

function create(groups, again) {
  form(
    "New admin key",
    [
      { name: "name", label: "Name", required: true, placeholder: "finance report" },
      { name: "scope", label: "May", kind: "select", options: { read: "read", write: "read and change" } },
      {
        name: "group",
        label: "Only this group",
        kind: "select",
        options: [["", "all groups"], ...groups.map((group) => [group.id, group.name])],
      },
      { name: "expires_at", label: "Expires", kind: "time", hint: "Empty: never." },
    ],
    {
      button: "Issue admin key",
      submit: (values) => api.post("/admin/admin_keys", values),
      done: async (made) => {
        await again();
        showSecret("Admin key issued", made.key, "Copy it now: it is shown this once and never again.");
      },
    },
  );
}

const revoke = (row, again) =>
  confirm("Revoke admin key", `${row.name} will be refused from now on, for good.`, {
    button: "Revoke",
    submit: () => api.remove(`/admin/admin_keys/${encodeURIComponent(row.id)}`),
    done: () => {
      notice("The admin key is revoked.");
      return again();
    },
  });
