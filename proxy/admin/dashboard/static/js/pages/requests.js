// The history of requests, and the live view of new ones.

import * as api from "../api.js";
import { filtersOf, here, periodOf } from "../address.js";
import { h, put } from "../dom.js";
import { currencyPicker, filterBar, rangePicker } from "../filters.js";
import { card, download, empty, head, segments } from "../parts.js";
import { liveTail, recordTable } from "../records.js";

const LIMIT = 50;
const LIVE = 40;
const FILTERABLE = [
  "user",
  "group",
  "model",
  "operation",
  "endpoint",
  "key",
  "status",
  "outcome",
  "end_user",
  "service_tier",
  "finish_reason",
  "provider",
];

export async function requests({ query, signal }) {
  const period = periodOf(query);
  const filters = filtersOf(query);
  const view = query.get("view") === "live" ? "live" : query.get("failed") ? "failed" : "all";
  const asked =
    view === "live"
      ? { ...filters, limit: LIVE }
      : { ...period, ...filters, failed: view === "failed" || null, cursor: query.get("cursor"), limit: LIMIT };
  const page = await api.get("/admin/records", asked, signal);
  const choose = (value) => {
    const set = { view: value === "live" ? value : null, failed: value === "failed" ? "1" : null, cursor: null };
    dispatchEvent(new CustomEvent("follow", { detail: here(set) }));
  };
  const exported = (format) => `/admin/export/records${api.queryOf({ ...period, ...filters, format })}`;
  return {
    title: "Requests",
    node: [
      head("Requests", {
        tools: [
          currencyPicker(page.data[0]),
          rangePicker(query),
          download("CSV", exported(null)),
          download("JSON lines", exported("jsonl")),
        ],
      }),
      h("div", { class: "filters" }, segments("View", { all: "All", failed: "Failed", live: "Live" }, view, choose)),
      filterBar(query, FILTERABLE),
      view === "live"
        ? liveCard(page.data, filters, signal)
        : card("History", history(page, query), {
            flush: true,
            about: "Newest first; the time of a request opens all of its fields",
          }),
    ],
  };
}

function liveCard(first, filters, signal) {
  const tail = liveTail({ first, filters, signal, shown: LIVE });
  return card("Live requests", tail.node, { tools: [put(h("div", { class: "actions" }), tail.tools)], flush: true });
}

/** A page of history with the way on. */
export function history(page, query, options) {
  if (!page.data.length)
    return empty("No requests", "None in this time with these filters. Choose a longer time, or remove a filter.");
  return [
    recordTable("Requests, newest first", page.data, options),
    h(
      "nav",
      { class: "pager", "aria-label": "Pages" },
      h("span", null, `${page.data.length} shown`),
      h(
        "div",
        null,
        query.get("cursor") && h("a", { class: "button slim", href: here({ cursor: null }) }, "Newest"),
        page.next_cursor && h("a", { class: "button slim", href: here({ cursor: page.next_cursor }) }, "Older"),
      ),
    ),
  ];
}
