// The row of controls above a page: time, filters, currency. All of it is the address.

import * as api from "./api.js";
import { FILTERS, RANGES, filtersOf, here, periodOf, rangeOf } from "./address.js";
import { h, put } from "./dom.js";
import * as format from "./format.js";
import { form } from "./forms.js";
import { draw } from "./icons.js";
import { isUser, session } from "./session.js";

const go = (href) => dispatchEvent(new CustomEvent("follow", { detail: href }));
const VALUES_MAX = 200;

/** The time range as a select; "custom" asks for two days. */
export function rangePicker(query, standard = "30") {
  const range = rangeOf(query, standard);
  const options = { ...RANGES };
  if (range === "custom")
    options.custom = `${format.date(query.get("start"))} – ${query.get("end") ? format.date(query.get("end")) : "now"}`;
  const node = h(
    "select",
    {
      "aria-label": "Time range",
      name: "range",
      onchange: () => {
        if (node.value !== "custom")
          return go(
            here({
              range: node.value === standard ? null : node.value,
              start: null,
              end: null,
              page: null,
              cursor: null,
            }),
          );
        node.value = range;
        return askRange(query, standard);
      },
    },
    Object.entries(options).map(([value, label]) => h("option", { value }, label)),
  );
  node.value = range;
  return node;
}

function askRange(query, standard) {
  const period = periodOf(query, standard);
  form(
    "Time range",
    [
      { name: "start", label: "From", kind: "date", value: period.start, required: true },
      { name: "end", label: "To, included", kind: "date", value: period.end, required: true },
    ],
    {
      button: "Show",
      submit: async (values) => {
        if (!values.start || !values.end)
          throw new api.ApiError(400, "Give both days.", "", values.start ? "end" : "start");
        if (values.end < values.start) throw new api.ApiError(400, "This lies before the first day.", "", "end");
        return values;
      },
      done: ({ start, end }) => go(here({ start, end, range: null, page: null, cursor: null })),
    },
  );
}

/** The currency as a select; nothing when the amounts of `row` are in dollars only. */
export function currencyPicker(row) {
  const codes = format.currenciesOf(row, session().currencies);
  if (!codes.length) return null;
  const node = h(
    "select",
    {
      "aria-label": "Currency",
      name: "currency",
      onchange: () => go(here({ currency: node.value === "USD" ? null : node.value })),
    },
    ["USD", ...codes].map((code) => h("option", { value: code }, code)),
  );
  node.value = format.shownCurrency();
  return node;
}

/** Chips for what is filtered, and a button that adds one of `names`. */
export function filterBar(query, names, { names: called = {} } = {}) {
  const set = filtersOf(query);
  const chips = Object.entries(set).map(([name, value]) => {
    const label = `${FILTERS[name] ?? name}: ${called[value] ?? (value || "none")}`;
    return h(
      "span",
      { class: "chip" },
      h("span", null, label),
      h(
        "button",
        {
          type: "button",
          "aria-label": `Remove filter ${label}`,
          onclick: () => go(here({ [name]: null, page: null, cursor: null })),
        },
        "×",
      ),
    );
  });
  return h(
    "div",
    { class: "filters" },
    chips,
    h(
      "button",
      { type: "button", class: "button slim", onclick: () => addFilter(query, names) },
      draw("filter"),
      "Add filter",
    ),
    chips.length > 1 &&
      h(
        "button",
        {
          type: "button",
          class: "button plain slim",
          onclick: () =>
            go(here(Object.fromEntries([...Object.keys(set), "page", "cursor"].map((name) => [name, null])))),
        },
        "Clear all",
      ),
  );
}

const SUMMED = new Set(["user", "group", "key", "model", "operation", "endpoint", "provider", "status"]);
const KNOWN = {
  outcome: [
    "success",
    "upstream_error",
    "upstream_unreachable",
    "upstream_timeout",
    "upstream_cut",
    "client_gone",
    "refused",
    "lost",
  ],
  service_tier: ["default", "flex", "priority", "batch", "scale"],
  finish_reason: ["stop", "length", "tool_calls", "content_filter", "completed", "max_output_tokens"],
};

function addFilter(query, names) {
  const period = periodOf(query);
  const list = h("datalist", { id: "filter-values" });
  const kind = h(
    "select",
    { id: "filter-kind", onchange: () => offer() },
    names.map((name) => h("option", { value: name }, FILTERS[name])),
  );
  const value = h("input", {
    id: "filter-value",
    type: "text",
    list: "filter-values",
    autocomplete: "off",
    required: true,
  });
  const ids = new Map();
  async function offer() {
    value.value = "";
    put(list);
    ids.clear();
    const name = kind.value;
    let found = (KNOWN[name] ?? []).map((key) => ({ key }));
    if (SUMMED.has(name)) {
      try {
        found = (
          await api.get(isUser() ? "/me/usage/by" : "/admin/stats/by", {
            ...period,
            group_by: name,
            limit: VALUES_MAX,
            sort: "requests",
          })
        ).data;
      } catch {
        found = []; // without suggestions one can still type
      }
    }
    if (kind.value !== name) return;
    put(
      list,
      found
        .filter((row) => row.key)
        .map((row) => {
          const label = row.name ? `${row.name}${row.email ? ` <${row.email}>` : ""}` : row.key;
          ids.set(label, row.key);
          return h("option", { value: label });
        }),
    );
  }
  form(
    "Add filter",
    [
      { kind: "own", node: h("div", { class: "stack" }, h("label", { for: "filter-kind" }, "What"), kind) },
      { kind: "own", node: h("div", { class: "stack" }, h("label", { for: "filter-value" }, "Is"), value, list) },
    ],
    {
      button: "Filter",
      submit: async () => {
        const text = value.value.trim();
        if (!text) throw new api.ApiError(400, "Choose or type a value.");
        return { [kind.value]: ids.get(text) ?? text };
      },
      done: (set) => go(here({ ...set, page: null, cursor: null })),
    },
  );
  offer();
}
