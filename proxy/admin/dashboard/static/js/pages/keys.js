// Keys: all of them, and a user's.

import * as api from "../api.js";
import { here, link } from "../address.js";
import { h } from "../dom.js";
import * as format from "../format.js";
import { card, empty, head } from "../parts.js";
import { issueKey, revokeKey, rotateKey, rowButtons } from "../people.js";
import { mayWrite } from "../session.js";
import { pager, table } from "../table.js";
import { searchBox } from "./users.js";

const LIMIT = 50;

export async function keys({ query, signal, again }) {
  const search = query.get("search") ?? "";
  const live = query.get("show") === "all" ? null : true;
  const page = await api.get("/admin/keys", { search, live, page: query.get("page"), limit: LIMIT }, signal);
  const owners = await names([...new Set(page.data.map((key) => key.user_id))], signal);
  return {
    title: "Keys",
    node: [
      head("Keys", { about: "Issue one on the page of its user" }),
      h(
        "div",
        { class: "filters" },
        searchBox(search, "Search keys"),
        h(
          "a",
          { class: "button slim", href: here({ show: live ? "all" : null, page: null }) },
          live ? "Show ended ones too" : "Only live ones",
        ),
      ),
      card(
        live ? "Live keys" : "All keys",
        page.data.length
          ? [keyTable(page.data, again, owners), pager(page, "key")]
          : empty(
              search ? "No key is called that" : "No keys yet",
              "A key belongs to a user: open a user and issue one.",
              h("a", { class: "button", href: link("/users", { show: "all" }) }, "To the users"),
            ),
        { flush: true },
      ),
    ],
  };
}

async function names(ids, signal) {
  if (!ids.length) return new Map();
  const { data } = await api.get("/admin/stats/users", { user: ids.slice(0, 50), days: 3660, limit: 50 }, signal);
  return new Map(data.map((row) => [row.key, row.name]));
}

/** A card with the keys of one user. */
export function keysCard(rows, again, { user }) {
  return card(
    "Keys",
    rows.length
      ? keyTable(rows, again)
      : empty(
          "No key yet",
          "An application needs one to make requests for this user.",
          mayWrite() &&
            h("button", { type: "button", class: "button primary", onclick: () => issueKey(user, again) }, "Issue key"),
        ),
    { flush: true },
  );
}

function keyTable(rows, again, owners = null) {
  return table(
    "Keys",
    [
      { label: "Key", show: (key) => [key.name ?? "not named", h("code", { class: "sub" }, key.masked)] },
      owners && {
        label: "User",
        show: (key) =>
          h("a", { class: "clip", href: link(`/users/${key.user_id}`) }, owners.get(key.user_id) ?? key.user_id),
      },
      { label: "State", show: state },
      { label: "Kind", wide: true, show: (key) => (key.service ? "service key" : "personal") },
      {
        label: "Last used",
        wide: true,
        show: (key) => h("span", { title: format.exactTime(key.last_used_at) }, format.since(key.last_used_at)),
      },
      { label: "Created", wide: true, show: (key) => format.date(key.created_at) },
      mayWrite() && {
        label: "",
        show: (key) =>
          ended(key)
            ? null
            : rowButtons(key.name ?? key.masked, [
                ["Rotate", () => rotateKey(key, again)],
                ["Revoke", () => revokeKey(key, again), "danger"],
              ]),
      },
    ].filter(Boolean),
    rows,
  );
}

const past = (text) => text !== null && new Date(text) <= new Date();
const ended = (key) => past(key.revoked_at) || past(key.expires_at);

function state(key) {
  if (past(key.revoked_at)) return h("span", { class: "tag" }, "revoked");
  if (past(key.expires_at)) return h("span", { class: "tag" }, "expired");
  if (key.expires_at) return h("span", { class: "tag warn" }, `until ${format.dateTime(key.expires_at)}`);
  return h("span", { class: "tag good" }, "live");
}
