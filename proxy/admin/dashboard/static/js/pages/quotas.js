// Quotas of everybody, and plans: named sets of quotas.

import * as api from "../api.js";
import { here, link } from "../address.js";
import { h } from "../dom.js";
import * as format from "../format.js";
import { confirm, form } from "../forms.js";
import { draw } from "../icons.js";
import { notice } from "../notice.js";
import { card, empty, facts, head, ruleText, SCOPES } from "../parts.js";
import { raiseQuota, removeQuota, rowButtons, rulesEditor } from "../people.js";
import { everywhere, mayWrite } from "../session.js";
import { pager, table } from "../table.js";

const LIMIT = 100;

export async function quotas({ query, signal, again }) {
  const scope = query.get("scope");
  const [page, plans, groups] = await Promise.all([
    api.get("/admin/quotas", { scope, page: query.get("page"), limit: LIMIT }, signal),
    api.get("/admin/plans", { limit: 1000 }, signal),
    api.get("/admin/groups", { limit: 1000 }, signal),
  ]);
  const names = await namesOf(page.data, groups.data, signal);
  const write = mayWrite();
  const chooser = h(
    "select",
    {
      "aria-label": "Whose quotas",
      onchange: () =>
        dispatchEvent(new CustomEvent("follow", { detail: here({ scope: chooser.value || null, page: null }) })),
    },
    [["", "Everybody's"], ...Object.entries(SCOPES)].map(([value, label]) => h("option", { value }, label)),
  );
  chooser.value = scope ?? "";
  return {
    title: "Quotas and plans",
    node: [
      head("Quotas and plans", {
        about: "A plan's quotas bind each user on it",
        tools: write &&
          everywhere() && [
            h(
              "button",
              { type: "button", class: "button", onclick: () => newQuota(groups.data, again) },
              draw("plus"),
              "New quota",
            ),
            h(
              "button",
              { type: "button", class: "button primary", onclick: () => editPlan(null, again) },
              draw("plus"),
              "New plan",
            ),
          ],
      }),
      h(
        "div",
        { class: "grid" },
        card(
          "Plans",
          plans.data.length
            ? table(
                "Plans",
                [
                  { label: "Plan", show: (row) => h("a", { href: link(`/plans/${row.id}`) }, row.name) },
                  {
                    label: "Quotas",
                    show: (row) =>
                      row.quotas.length
                        ? row.quotas.map((quota) => h("span", { class: "sub" }, ruleText(quota)))
                        : h("span", { class: "muted" }, "none"),
                  },
                  { label: "Users", number: true, show: (row) => format.number(row.users) },
                  { label: "Groups", number: true, wide: true, show: (row) => format.number(row.groups) },
                  write &&
                    everywhere() && {
                      label: "",
                      show: (row) => rowButtons(row.name, [["Change", () => editPlan(row, again)]]),
                    },
                ].filter(Boolean),
                plans.data,
                { link: (row) => link(`/plans/${row.id}`) },
              )
            : empty("No plans yet", "A plan is a set of quotas that many users share."),
          { flush: true },
        ),
        card(
          "Quotas",
          page.data.length
            ? [
                table(
                  "Quotas",
                  [
                    { label: "Whose", show: (row) => subject(row, names) },
                    { label: "Rule", show: (row) => [ruleText(row), raised(row)] },
                    { label: "Since", wide: true, show: (row) => format.date(row.created_at) },
                    write && {
                      label: "",
                      show: (row) =>
                        rowButtons(`${names.get(row.scope_id) ?? SCOPES[row.scope]}: ${ruleText(row)}`, [
                          ["Raise", () => raiseQuota(row, again)],
                          ["Remove", () => removeQuota(row, again), "danger"],
                        ]),
                    },
                  ].filter(Boolean),
                  page.data,
                ),
                pager(page, "quota"),
              ]
            : empty("No quotas of this kind", "Set quotas on the page of a user or a group, or for everyone here."),
          {
            flush: true,
            tools: [chooser],
            about: "Those of single users and groups, and everyone's; plans' stand above",
          },
        ),
      ),
    ],
  };
}

async function namesOf(rows, groups, signal) {
  const names = new Map(groups.map((group) => [group.id, group.name]));
  const ids = [...new Set(rows.filter((row) => row.scope === "user").map((row) => row.scope_id))];
  await Promise.all(
    ids.slice(0, 50).map(async (id) => {
      try {
        names.set(id, (await api.get(`/admin/users/${encodeURIComponent(id)}`, {}, signal)).name);
      } catch (error) {
        if (error.status !== 404) throw error; // a quota may outlive its user; its id stands for it
      }
    }),
  );
  return names;
}

function subject(row, names) {
  const label = names.get(row.scope_id) ?? row.scope_id;
  const href = { user: link(`/users/${row.scope_id}`), group: link(`/groups/${row.scope_id}`) }[row.scope];
  return [
    label ? (href ? h("a", { href }, label) : label) : SCOPES[row.scope],
    label && h("span", { class: "sub" }, SCOPES[row.scope]),
  ];
}

const raised = (row) =>
  row.raised_limit &&
  new Date(row.raised_until) > new Date() &&
  h(
    "span",
    { class: "sub" },
    h(
      "span",
      { class: "tag warn" },
      `${format.inUnit(row.unit, row.raised_limit)} until ${format.dateTime(row.raised_until)}`,
    ),
  );

function newQuota(groups, again) {
  form(
    "New quota",
    [
      {
        name: "scope",
        label: "Binds",
        kind: "select",
        options: { everyone: "Everyone together", end_user: "Each end user", group: "A group" },
      },
      {
        name: "scope_id",
        label: "Group",
        kind: "select",
        options: [["", "–"], ...groups.map((group) => [group.id, group.name])],
        hint: "For a group's quota.",
      },
      {
        name: "unit",
        label: "Counts",
        kind: "select",
        options: { cost: "US dollars", tokens: "tokens", requests: "requests" },
      },
      {
        name: "window",
        label: "In",
        kind: "select",
        options: { month: "a month", day: "a day", hour: "an hour", minute: "a minute", total: "in total" },
      },
      { name: "limit", label: "Limit", kind: "number", required: true },
      { name: "model", label: "Only for model", placeholder: "gpt-5*", hint: "A pattern; empty: all." },
      { name: "operation", label: "Only for operation" },
      { name: "soft", label: "Soft", kind: "check", hint: "Reported and counted, but nothing is refused." },
    ],
    {
      button: "Create quota",
      submit: ({ limit, ...values }) => {
        if (!limit) throw new api.ApiError(400, "Give a limit.", "", "limit");
        return api.post("/admin/quotas", {
          ...values,
          limit,
          scope_id: values.scope === "group" ? values.scope_id : null,
        });
      },
      done: () => {
        notice("The quota is set.");
        return again();
      },
    },
  );
}

function editPlan(plan, done) {
  const editor = rulesEditor(plan?.quotas ?? []);
  form(
    plan ? "Change plan" : "New plan",
    [
      { name: "name", label: "Name", required: true, value: plan?.name, full: true },
      { kind: "own", name: "quotas", ...editor },
    ],
    {
      button: plan ? "Save" : "Create plan",
      submit: (values) =>
        plan ? api.patch(`/admin/plans/${encodeURIComponent(plan.id)}`, values) : api.post("/admin/plans", values),
      done: () => {
        notice(plan ? "Saved." : "The plan is created.");
        return done();
      },
    },
  );
}

export async function plan({ params, signal, again }) {
  const path = `/admin/plans/${encodeURIComponent(params.id)}`;
  const [seen, people] = await Promise.all([
    api.get(path, {}, signal),
    api.get("/admin/users", { plan: params.id, limit: 200 }, signal),
  ]);
  const leave = () => dispatchEvent(new CustomEvent("follow", { detail: link("/quotas") }));
  return {
    title: seen.name,
    node: [
      head(seen.name, {
        crumb: { path: "/quotas", label: "Quotas and plans" },
        about: `${format.plural(seen.users, "user")} and ${format.plural(seen.groups, "group")} on this plan`,
        tools: mayWrite() &&
          everywhere() && [
            h(
              "button",
              {
                type: "button",
                class: "button danger",
                onclick: () =>
                  confirm("Remove plan", `${seen.name} will be gone. Nobody may be on it.`, {
                    button: "Remove",
                    submit: () => api.remove(path),
                    done: leave,
                  }),
              },
              "Remove",
            ),
            h("button", { type: "button", class: "button primary", onclick: () => editPlan(seen, again) }, "Change"),
          ],
      }),
      h(
        "div",
        { class: "grid" },
        card(
          "Quotas of each user",
          seen.quotas.length
            ? h(
                "ul",
                null,
                seen.quotas.map((quota) => h("li", null, ruleText(quota))),
              )
            : empty("No quotas", "Whoever is on this plan may use as much as everyone."),
          { size: "half" },
        ),
        card(
          "About",
          facts([
            ["Id", h("code", null, seen.id)],
            ["Created", format.dateTime(seen.created_at)],
            ["Changed", format.dateTime(seen.updated_at)],
          ]),
          { size: "half" },
        ),
        card(
          "Users",
          people.data.length
            ? table(
                "Users on this plan",
                [
                  {
                    label: "User",
                    show: (row) => [
                      h("a", { href: link(`/users/${row.id}`) }, row.name ?? row.id),
                      h("span", { class: "sub" }, row.email),
                    ],
                  },
                  { label: "Group", show: (row) => row.group_name ?? h("span", { class: "muted" }, "none") },
                ],
                people.data,
              )
            : empty("Nobody is on this plan", "Put a user on it on the user's page."),
          { flush: true },
        ),
      ),
    ],
  };
}
