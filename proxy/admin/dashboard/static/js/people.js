// Dialogs that change users, groups, keys and quotas.

import * as api from "./api.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { confirm, field, form, showSecret, tagsOf, tagsText } from "./forms.js";
import { notice } from "./notice.js";

const ALL = 1000;
const at = (kind, named) => `/admin/${kind}/${encodeURIComponent(named)}`;

async function choices(kind) {
  const { data } = await api.get(`/admin/${kind}`, { limit: ALL });
  return [["", "none"], ...data.map((row) => [row.id, row.name])];
}

/** Create a user (`user` null), or change one. */
export async function editUser(user, done) {
  const [groups, plans] = await Promise.all([choices("groups"), choices("plans")]);
  form(
    user ? "Change user" : "New user",
    [
      { name: "name", label: "Name", value: user?.name, hint: "Without one the user is shown by its id." },
      { name: "email", label: "E-mail", kind: "email", value: user?.email },
      { name: "group", label: "Group", kind: "select", options: groups, value: user?.group ?? "" },
      {
        name: "plan",
        label: "Plan",
        kind: "select",
        options: plans,
        value: user?.plan ?? "",
        hint: "Its quotas bind the user.",
      },
      {
        name: "external_id",
        label: "External id",
        value: user?.external_id,
        hint: "The application's own id of the user.",
      },
      {
        name: "tags",
        label: "Tags",
        kind: "area",
        value: tagsText(user?.tags),
        hint: "One name=value on each line.",
        full: true,
      },
      ...(user
        ? [
            {
              name: "active",
              label: "Active",
              kind: "check",
              value: user.active,
              hint: "A deactivated user's keys stop within a second.",
            },
          ]
        : []),
    ],
    {
      button: user ? "Save" : "Create user",
      submit: ({ tags, ...values }) => {
        const body = { ...values, tags: tagsOf(tags) };
        return user ? api.patch(at("users", user.id), body) : api.post("/admin/users", body);
      },
      done: (made) => said(user ? "Saved." : `${made.name ?? made.id} was created.`, done, made),
    },
  );
}

/** Create a group, or change one. */
export async function editGroup(group, done) {
  form(
    group ? "Change group" : "New group",
    [
      { name: "name", label: "Name", required: true, value: group?.name },
      {
        name: "plan",
        label: "Plan",
        kind: "select",
        options: await choices("plans"),
        value: group?.plan ?? "",
        hint: "For users without one of their own.",
      },
      { name: "external_id", label: "External id", value: group?.external_id },
      {
        name: "tags",
        label: "Tags",
        kind: "area",
        value: tagsText(group?.tags),
        hint: "One name=value on each line.",
        full: true,
      },
      ...(group
        ? [
            {
              name: "active",
              label: "Active",
              kind: "check",
              value: group.active,
              hint: "Deactivating it stops its users' keys within a second.",
            },
          ]
        : []),
    ],
    {
      button: group ? "Save" : "Create group",
      submit: ({ tags, ...values }) => {
        const body = { ...values, tags: tagsOf(tags) };
        return group ? api.patch(at("groups", group.id), body) : api.post("/admin/groups", body);
      },
      done: (made) => said(group ? "Saved." : `${made.name} was created.`, done, made),
    },
  );
}

async function said(text, done, made) {
  notice(text);
  await done?.(made);
}

/** Issue a key for a user; it is shown once. */
export function issueKey(user, done) {
  form(
    `New key for ${user.name ?? user.id}`,
    [
      { name: "name", label: "Name", placeholder: "laptop", hint: "To tell keys apart." },
      { name: "expires_at", label: "Expires", kind: "time", hint: "Empty: never." },
      { name: "default_operation", label: "Default operation", hint: "For requests that name none." },
      {
        name: "service",
        label: "Service key",
        kind: "check",
        hint: "May speak for other users with the header X-Usage-User.",
      },
    ],
    {
      button: "Issue key",
      submit: (values) => api.post(`${at("users", user.id)}/keys`, values),
      done: async (made) => {
        await done?.();
        showSecret("Key issued", made.key, "Copy it now: it is shown this once and never again.");
      },
    },
  );
}

/** End a key and issue its successor. */
export function rotateKey(key, done) {
  form(
    "Rotate key",
    [
      {
        name: "grace",
        label: "The old key lives on for",
        kind: "select",
        options: [
          ["0", "not at all"],
          ["3600", "an hour"],
          ["86400", "a day"],
          ["604800", "a week"],
        ],
        full: true,
      },
    ],
    {
      about: `${key.name ?? key.masked} gets a successor with the same rules.`,
      button: "Rotate",
      submit: ({ grace }) => api.post(`${at("keys", key.id)}/rotate`, { grace_s: Number(grace ?? 0) }),
      done: async (made) => {
        await done?.();
        showSecret("Successor issued", made.key, "Copy it now: it is shown this once and never again.");
      },
    },
  );
}

/** End a key for good. */
export const revokeKey = (key, done) =>
  confirm("Revoke key", `${key.name ?? key.masked} will be refused within a second, for good.`, {
    button: "Revoke",
    submit: () => api.remove(at("keys", key.id)),
    done: () => said("The key is revoked.", done),
  });

const UNITS = { cost: "US dollars", tokens: "tokens", requests: "requests" };
const WINDOWS = { month: "a month", day: "a day", hour: "an hour", minute: "a minute", total: "in total" };

/** An editor of a list of quota rules: `read()` gives them as the API takes them. */
export function rulesEditor(rules) {
  const rows = [];
  const list = h("ul", { class: "rules" });
  const none = h("p", { class: "muted" }, "No quota: nothing is limited.");
  const show = () => {
    none.hidden = rows.length > 0;
  };
  function add(rule = { unit: "cost", window: "month", limit: "" }) {
    const unit = field({ label: "Counts", kind: "select", options: UNITS, value: rule.unit });
    const span = field({ label: "In", kind: "select", options: WINDOWS, value: rule.window });
    const limit = field({ label: "Limit", kind: "number", value: rule.limit });
    const node = h(
      "li",
      null,
      limit.node,
      unit.node,
      span.node,
      h(
        "button",
        {
          type: "button",
          class: "button slim danger",
          "aria-label": "Remove this quota",
          onclick: () => {
            node.remove();
            rows.splice(rows.indexOf(row), 1);
            show();
          },
        },
        "Remove",
      ),
    );
    const { model, operation, tag, billing_day, soft } = rule;
    const kept = Object.fromEntries(
      Object.entries({ model, operation, tag, billing_day, soft }).filter(
        ([, value]) => value !== undefined && value !== null,
      ),
    );
    const row = {
      limit,
      read: () => ({ ...kept, unit: unit.value(), window: span.value(), limit: limit.value() ?? "" }),
    };
    rows.push(row);
    list.append(node);
    show();
  }
  rules.forEach(add);
  show();
  return {
    node: h(
      "div",
      { class: "stack" },
      none,
      list,
      h("div", null, h("button", { type: "button", class: "button slim", onclick: () => add() }, "Add a quota")),
    ),
    read: () => rows.map((row) => row.read()),
    complain: (text) => {
      for (const row of rows) row.limit.complain(null);
      const bad =
        rows.find((row) => row.limit.value() === null) ??
        rows.find((row) => Number.isNaN(Number(row.limit.value()))) ??
        rows[0];
      if (text) bad?.limit.complain(text);
    },
  };
}

/** Set the whole list of a user's or group's own quotas. `kind`: users, groups or keys. */
export function editQuotas(kind, subject, quotas, done) {
  const editor = rulesEditor(quotas);
  form(`Quotas of ${subject.name ?? subject.id}`, [{ kind: "own", name: "quotas", ...editor }], {
    about: "Its own quotas. Those of its plan and group bind as well.",
    submit: ({ quotas: rules }) => withField(api.put(`${at(kind, subject.id)}/quotas`, rules), "quotas"),
    done: () => said("Quotas are set.", done),
  });
}

/** The API names fields of a bare list by number: say it at the list. */
async function withField(answer, name) {
  try {
    return await answer;
  } catch (error) {
    error.param = name;
    throw error;
  }
}

/** Another limit until a day, after which the old one holds again; or the end of such a raise. */
export function raiseQuota(quota, done) {
  const raised = quota.raised_limit !== null && quota.raised_limit !== undefined;
  form(
    "Raise for a while",
    [
      {
        name: "raised_limit",
        label: `Limit in ${UNITS[quota.unit]}`,
        kind: "number",
        value: quota.raised_limit,
        hint: raised ? "Empty ends the raise now." : null,
      },
      { name: "raised_until", label: "Until", kind: "time", value: local(quota.raised_until) },
    ],
    {
      about: `Otherwise the limit is ${format.inUnit(quota.unit, quota.limit)}. What is used is kept.`,
      button: "Raise",
      submit: ({ raised_limit, raised_until }) => {
        if (!raised_limit && !raised) throw new api.ApiError(400, "Give a limit.", "", "raised_limit");
        return api.patch(at("quotas", quota.id), { raised_limit, raised_until: raised_limit ? raised_until : null });
      },
      done: () => said("The limit is changed.", done),
    },
  );
}

/** A time as an input of kind datetime-local has it. */
function local(text) {
  if (!text) return "";
  const time = new Date(text);
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Remove one quota. */
export const removeQuota = (quota, done) =>
  confirm(
    "Remove quota",
    `${format.inUnit(quota.unit, quota.limit)} ${WINDOWS[quota.window]} will no longer be enforced. Usage stays in the records.`,
    {
      button: "Remove",
      submit: () => api.remove(at("quotas", quota.id)),
      done: () => said("The quota is removed.", done),
    },
  );

/** Buttons of a row, with what they are about for screen readers. */
export const rowButtons = (about, buttons) =>
  h(
    "div",
    { class: "actions" },
    buttons
      .filter(Boolean)
      .map(([label, onclick, mood]) =>
        h(
          "button",
          { type: "button", class: `button slim ${mood ?? ""}`, onclick },
          label,
          h("span", { class: "unseen" }, ` ${about}`),
        ),
      ),
  );
