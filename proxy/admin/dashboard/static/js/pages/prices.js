// Prices that were set here; all others come from the price list that the proxy brings along.

import * as api from "../api.js";
import { here } from "../address.js";
import { h } from "../dom.js";
import * as format from "../format.js";
import { confirm, form, tagsOf } from "../forms.js";
import { draw } from "../icons.js";
import { notice } from "../notice.js";
import { card, empty, head, later } from "../parts.js";
import { rowButtons } from "../people.js";
import { everywhere, mayWrite } from "../session.js";
import { pager, table } from "../table.js";

const LIMIT = 100;
const SHOWN = 40;
const FIRST_SHOWN = "gpt-5*";
const COMMON = { input_tokens: "Input", cached_input_tokens: "Cached input", output_tokens: "Output" };

export async function prices({ query, signal, again }) {
  const model = query.get("model");
  const write = mayWrite() && everywhere();
  const page = await api.get("/admin/prices", { model, page: query.get("page"), limit: LIMIT }, signal);
  const input = h("input", {
    type: "search",
    name: "model",
    value: model,
    placeholder: "Model, such as gpt-5*",
    "aria-label": "Model",
  });
  const search = h(
    "form",
    {
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        dispatchEvent(new CustomEvent("follow", { detail: here({ model: input.value.trim() || null, page: null }) }));
      },
    },
    input,
  );
  return {
    title: "Prices",
    node: [
      head("Prices", {
        about: "Set here; they come before the price list that the proxy brings along",
        tools:
          write &&
          h(
            "button",
            { type: "button", class: "button primary", onclick: () => setPrice(again) },
            draw("plus"),
            "Set a price",
          ),
      }),
      h("div", { class: "filters" }, search),
      h(
        "div",
        { class: "grid" },
        card(
          "Local prices",
          page.data.length
            ? [
                table(
                  "Local prices",
                  [
                    {
                      label: "Model",
                      show: (row) => [
                        row.model,
                        h(
                          "span",
                          { class: "sub" },
                          [row.provider, row.tier !== "default" && row.tier].filter(Boolean).join(" · "),
                        ),
                      ],
                    },
                    { label: "US dollars per million tokens, or per unit", show: (row) => rates(row.rates) },
                    { label: "From", show: (row) => format.date(row.starts_at) },
                    write && {
                      label: "",
                      show: (row) =>
                        rowButtons(`${row.model} from ${format.date(row.starts_at)}`, [
                          ["Remove", () => removePrice(row, again), "danger"],
                        ]),
                    },
                  ].filter(Boolean),
                  page.data,
                ),
                pager(page, "price"),
              ]
            : empty(
                model ? "No local price for that model" : "No prices set here",
                "Set one for a model that the price list does not know, or for a contract of your own.",
              ),
          { flush: true },
        ),
        priceList(model ?? FIRST_SHOWN, signal),
      ),
    ],
  };
}

function priceList(pattern, signal) {
  const load = () => api.get("/admin/models", { model: pattern.includes("*") ? pattern : `${pattern}*` }, signal);
  const build = ({ data }) =>
    data.length
      ? [
          table(
            "What models cost now",
            [
              { label: "Model", show: (row) => h("span", { class: "nowrap" }, row.model) },
              ...Object.entries(COMMON).map(([unit, label]) => ({
                label,
                number: true,
                show: (row) => rate(row.rates[unit]),
              })),
              { label: "By", wide: true, show: (row) => h("code", { class: "small" }, row.price_id) },
            ],
            data.slice(0, SHOWN),
          ),
          data.length > SHOWN &&
            h("p", { class: "pager" }, `${SHOWN} of ${format.plural(data.length, "model")}: search for others`),
        ]
      : empty("No model is called that", "Search with * for any characters, such as gpt-4o*.");
  return card("What models cost now", later(load, build, { signal, optional: true }), {
    flush: true,
    about: "US dollars per million tokens, local prices included",
  });
}

function rate(value) {
  if (value === undefined) return h("span", { class: "muted" }, "–");
  return typeof value === "object"
    ? [format.money(Object.values(value)[0]), h("span", { class: "sub" }, "more for long inputs")]
    : format.money(value);
}

const rates = (found) =>
  Object.entries(found).map(([unit, rate]) =>
    h(
      "span",
      { class: "sub" },
      `${COMMON[unit] ?? format.titled(unit.replaceAll("_", " "))}: ${
        typeof rate === "object"
          ? Object.entries(rate)
              .map(([from, usd]) => `${from} ${usd}`)
              .join(", ")
          : rate
      }`,
    ),
  );

function setPrice(again) {
  form(
    "Set a price",
    [
      { name: "model", label: "Model", required: true, placeholder: "gpt-5*" },
      { name: "provider", label: "Provider", value: "openai" },
      ...Object.entries(COMMON).map(([name, label]) => ({
        name,
        label: `${label}, US dollars per million tokens`,
        kind: "number",
        required: name === "input_tokens",
      })),
      { name: "starts_at", label: "From", kind: "time", hint: "Empty: always." },
      {
        name: "tier",
        label: "Service tier",
        kind: "select",
        options: ["default", "flex", "priority", "batch"].map((tier) => [tier, tier]),
      },
      {
        name: "more",
        label: "Other units",
        kind: "area",
        full: true,
        hint: "One unit=dollars on each line, such as web_searches=0.01.",
      },
    ],
    {
      button: "Set price",
      submit: async ({ more, ...values }) => {
        const given = Object.keys(COMMON)
          .filter((name) => values[name] !== null)
          .map((name) => [name, values[name]]);
        const body = Object.fromEntries(
          Object.entries(values).filter(([name, value]) => !(name in COMMON) && value !== null),
        );
        return api.post("/admin/prices", { ...body, rates: { ...Object.fromEntries(given), ...tagsOf(more) } });
      },
      done: () => {
        notice("The price is set. Records before it keep theirs until they are repriced.");
        return again();
      },
    },
  );
}

const removePrice = (row, again) =>
  confirm(
    "Remove price",
    `${row.model} will be priced by the price list again. Records keep the cost that they have.`,
    {
      button: "Remove",
      submit: () => api.remove(`/admin/prices/${encodeURIComponent(row.id)}`),
      done: () => {
        notice("The price is removed.");
        return again();
      },
    },
  );
