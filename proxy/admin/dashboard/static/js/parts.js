// What pages are made of.

import { link } from "./address.js";
import { h, put } from "./dom.js";
import * as format from "./format.js";
import { draw } from "./icons.js";

const MOST_SHOWN = 10;

/** A page's head: title, what it is about, and tools at the right. */
export function head(title, { about = null, crumb = null, tools = [] } = {}) {
  return h(
    "div",
    { class: "head" },
    h(
      "div",
      { class: "title" },
      crumb && h("a", { class: "crumb", href: link(crumb.path) }, `← ${crumb.label}`),
      h("h1", { tabindex: "-1" }, title),
      about && h("p", null, about),
    ),
    h("div", { class: "tools" }, tools),
  );
}

/** A card with a heading. `tools` stand at the right of it. */
export function card(title, body, { tools = [], about = null, size = "", flush = false, level = "h2" } = {}) {
  return h(
    "section",
    { class: `card ${size} ${flush ? "flush" : ""}` },
    h("header", null, h("div", null, h(level, null, title), about && h("p", null, about)), tools),
    body,
  );
}

/** Nothing here, and what to do about it. */
export const empty = (title, text, action = null) =>
  h("div", { class: "empty" }, h("strong", null, title), text && h("p", null, text), action);

/** What went wrong, in words, and a way to try again. */
export function problem(error, again = null) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("strong", null, error.status === 403 ? "You may not see this." : "This could not be loaded."),
    h("span", null, error.message),
    again && h("button", { type: "button", class: "button slim", onclick: again }, "Try again"),
  );
}

/** A place that is filled when its data come. `optional`: it vanishes where the API does not have it (404). */
export function later(load, build, { signal = null, optional = false, placeholder = "Loading…" } = {}) {
  const node = h("div", null, h("div", { class: "loading" }, placeholder));
  const run = async () => {
    try {
      const data = await load();
      if (!signal?.aborted) put(node, build(data));
    } catch (error) {
      if (error.name === "AbortError" || signal?.aborted) return;
      if (optional && error.status === 404) (node.closest(".card") ?? node).remove();
      else if (error.status === undefined) throw error;
      else if (error.status !== 401) put(node, problem(error, run));
    }
  };
  run();
  return node;
}

/** Choose one of a few: `options` is {value: label}. */
export function segments(label, options, chosen, onchoose) {
  const buttons = Object.entries(options).map(([value, text]) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": String(value === chosen),
        "data-value": value,
        onclick: () => {
          for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.value === value));
          onchoose(value);
        },
      },
      text,
    ),
  );
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

/** How a number compares with the period before. `rise`: whether more is "good", "bad" or neither. */
export function delta(now, before, rise = "flat") {
  if (!before) return h("span", null, now ? "nothing in the period before" : "");
  const ratio = (now - before) / before;
  const size = Math.abs(ratio);
  if (size < 0.005) return h("span", { class: "delta flat" }, "unchanged");
  const up = ratio > 0;
  const mood = rise === "flat" ? "flat" : up === (rise === "good") ? "good" : "bad";
  return h(
    "span",
    { class: `delta ${mood}` },
    h("span", { "aria-hidden": "true" }, up ? "▲" : "▼"),
    h("span", { class: "unseen" }, up ? "up " : "down "),
    size > MOST_SHOWN ? `over ${format.percent(MOST_SHOWN)}` : format.percent(size),
  );
}

/** A headline number. `ever` is {label: text}. */
export function tile(label, value, { versus = null, ever = null, title = null } = {}) {
  return h(
    "dl",
    { class: "tile" },
    h("dt", null, label),
    h(
      "dd",
      null,
      h("span", { class: "value", title }, value),
      versus && h("span", { class: "versus" }, versus),
      ever &&
        h(
          "span",
          { class: "ever" },
          Object.entries(ever).map(([name, text]) => h("span", null, h("span", null, name), h("b", null, text))),
        ),
    ),
  );
}

/** A bar: `part` of 1. */
export const bar = (part, { mood = "", series = null } = {}) =>
  h("span", {
    class: `bar ${mood}`,
    style: { "--part": `${Math.min(100, Math.max(0, part * 100))}%`, ...(series ? { "--series": series } : {}) },
  });

/** Rows with a bar each, the longest full. `rows`: {label, href, value, text}. */
export function ranked(rows, label) {
  const most = Math.max(...rows.map((row) => row.value), 0) || 1;
  return h(
    "ol",
    { class: "ranked", "aria-label": label },
    rows.map((row) =>
      h(
        "li",
        null,
        h(
          "div",
          { class: "line" },
          row.href
            ? h("a", { href: row.href, title: row.label }, row.label)
            : h("span", { title: row.label }, row.label),
          h("span", null, row.text, row.more && h("span", { class: "muted" }, ` · ${row.more}`)),
        ),
        bar(row.value / most),
      ),
    ),
  );
}

const WINDOWS = { minute: "a minute", hour: "an hour", day: "a day", month: "a month", total: "in total" };

/** A quota's rule in words: "$5.00 of cost a month for gpt-5*". */
export function ruleText(quota) {
  const only = [
    quota.model && `model ${quota.model}`,
    quota.operation && `operation ${quota.operation}`,
    quota.tag && `tag ${quota.tag}`,
  ].filter(Boolean);
  return `${format.inUnit(quota.unit, quota.limit)} ${WINDOWS[quota.window]}${only.length ? ` for ${only.join(", ")}` : ""}${quota.soft ? " (soft)" : ""}`;
}

/** Whose quota it is. */
export const SCOPES = { key: "Key", user: "User", end_user: "End user", group: "Group", everyone: "Everyone" };

/** A quota against its use, as a meter. */
export function quotaBar(quota, { name = null, slim = false } = {}) {
  const limit = Number(quota.limit);
  const part = limit ? Number(quota.used) / limit : Number(quota.used) ? 1 : 0;
  const mood = part >= 1 ? "bad" : part >= 0.8 ? "warn" : "";
  const rule = ruleText(quota);
  const meter = h(
    "span",
    {
      role: "meter",
      "aria-label": `${name ? `${name}: ` : ""}${rule}`,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": String(Math.min(100, Math.round(part * 100))),
      "aria-valuetext": `${format.percent(part)} used`,
    },
    bar(part, { mood }),
  );
  if (slim) {
    return h(
      "div",
      { class: "quota", title: `${rule}: ${format.inUnit(quota.unit, quota.used)} used` },
      h(
        "div",
        { class: "line small" },
        h("span", { class: "muted" }, `${format.inUnit(quota.unit, quota.limit)}/${quota.window}`),
        h("span", null, format.percent(part)),
      ),
      meter,
    );
  }
  return h(
    "div",
    { class: "quota" },
    h(
      "div",
      { class: "line" },
      h("span", null, name && h("strong", null, `${name} · `), rule),
      h("span", null, `${format.inUnit(quota.unit, quota.used)} · ${format.percent(part)}`),
    ),
    meter,
    h(
      "div",
      { class: "note" },
      `${format.inUnit(quota.unit, quota.remaining)} left`,
      quota.resets_at && `, starts anew ${format.dateTime(quota.resets_at)}`,
    ),
  );
}

const ENDINGS = {
  upstream_error: "error",
  upstream_unreachable: "unreachable",
  upstream_timeout: "timeout",
  upstream_cut: "cut off",
  client_gone: "client gone",
};

/** How a request ended. */
export function ending(record) {
  if (record.voided_at) return h("span", { class: "tag warn" }, "voided");
  const mood =
    record.outcome === "success"
      ? "good"
      : record.outcome === "client_gone" || record.outcome === "refused"
        ? "warn"
        : "bad";
  const text =
    record.outcome === "success"
      ? String(record.status)
      : `${record.status || ""} ${ENDINGS[record.outcome] ?? record.outcome}`.trim();
  return h("span", { class: `tag ${mood}` }, text);
}

/** A link that downloads. */
export const download = (label, href) => h("a", { class: "button", href, download: "" }, draw("download"), label);

/** Names and values. `rows` is [[name, value], …]; empty values are left out. */
export const facts = (rows, { two = false } = {}) =>
  h(
    "dl",
    { class: two ? "facts two" : "facts" },
    rows
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
  );
