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
  const failed = query.get("failed") ? true : null;
  const live = query.get("view") === "live";
  const node = [
    head("Requests", {
      tools: [
        currencyPicker(),
        rangePicker(query),
        download("CSV", `/admin/export/records${api.queryOf({ ...period, ...filters })}`),
        download("JSON lines", `/admin/export/records${api.queryOf({ ...period, ...filters, format: "jsonl" })}`),
      ],
    }),
    h(
      "div",
      { class: "filters" },
      segments(
        "View",
        { all: "All", failed: "Failed", live: "Live" },
        live ? "live" : failed ? "failed" : "all",
        (value) =>
          dispatchEvent(
            new CustomEvent("follow", {
              detail: here({
                view: value === "live" ? "live" : null,
                failed: value === "failed" ? "1" : null,
                cursor: null,
              }),
            }),
          ),
      ),
    ),
    filterBar(query, FILTERABLE),
  ];
  if (live) {
    const { data } = await api.get("/admin/records", { ...filters, limit: LIVE }, signal);
    const tail = liveTail({ first: data, filters, signal, shown: LIVE });
    const tools = h("div", { class: "actions" });
    put(tools, tail.tools);
    node.push(card("Live requests", tail.node, { tools: [tools], flush: true }));
    return { title: "Requests", node };
  }
  const page = await api.get(
    "/admin/records",
    { ...period, ...filters, failed, cursor: query.get("cursor"), limit: LIMIT },
    signal,
  );
  node.push(
    card("History", history(page, query), {
      flush: true,
      about: "Newest first; the time of a request opens all of its fields",
    }),
  );
  return { title: "Requests", node };
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
