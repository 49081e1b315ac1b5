// What failed, and whose it was.

import * as api from "../api.js";
import { filtersOf, here, link, periodOf } from "../address.js";
import { h } from "../dom.js";
import { filterBar, rangePicker } from "../filters.js";
import * as format from "../format.js";
import { card, empty, head, ranked, tile } from "../parts.js";
import { recordTable } from "../records.js";
import { table } from "../table.js";

const OUTCOMES = {
  upstream_error: "OpenAI answered with an error",
  upstream_unreachable: "OpenAI could not be reached",
  upstream_timeout: "OpenAI did not answer in time",
  upstream_cut: "the answer broke off",
  refused: "refused by a quota or rule",
  lost: "the proxy died meanwhile",
  success: "an error within the answer",
};

export async function errors({ query, signal }) {
  const asked = { ...periodOf(query), ...filtersOf(query) };
  const [seen, recent] = await Promise.all([
    api.get("/admin/stats/errors", asked, signal),
    api.get("/admin/records", { ...asked, failed: true, limit: 20 }, signal),
  ]);
  const top = (rows, href) =>
    rows.length
      ? ranked(
          rows.map((row) => ({
            label: row.name ?? (row.key || "not named"),
            href: href(row),
            value: row.errors,
            text: format.number(row.errors),
            more: format.percent(row.error_rate),
          })),
          "By number of failed requests",
        )
      : h("p", { class: "muted" }, "None.");
  return {
    title: "Errors",
    node: [
      head("Errors", {
        about: "Answers of 400 and more, answers that broke off or held an error, and requests without one. Who hangs up early is none of them.",
        tools: [rangePicker(query)],
      }),
      filterBar(query, ["user", "group", "model", "operation", "endpoint", "key", "status"]),
      h(
        "div",
        { class: "grid" },
        h(
          "div",
          { class: "tiles" },
          tile("Failed requests", format.number(seen.errors)),
          tile("Of all requests", format.percent(seen.error_rate), {
            versus: `${format.number(seen.requests)} requests in all`,
          }),
        ),
        h(
          "div",
          { class: "wide stack" },
          card(
            "By kind",
            seen.by_code.length
              ? table(
                  "Failed requests by kind",
                  [
                    {
                      label: "Status",
                      show: (row) => h("a", { href: here({ status: String(row.status) }) }, row.status || "none"),
                    },
                    { label: "Code", show: (row) => row.error_code ?? h("span", { class: "muted" }, "–") },
                    { label: "What happened", wide: true, show: (row) => OUTCOMES[row.outcome] ?? row.outcome },
                    { label: "Requests", number: true, show: (row) => format.number(row.requests) },
                  ],
                  seen.by_code,
                )
              : empty("Nothing failed", "No request failed in this time."),
            { flush: true },
          ),
        ),
        h(
          "div",
          { class: "third stack" },
          card(
            "By model",
            top(seen.by_model, (row) => here({ model: row.key })),
          ),
          card(
            "By user",
            top(seen.by_user, (row) => link(`/users/${row.key}`)),
          ),
        ),
        card(
          "Newest failed requests",
          recent.data.length ? recordTable("Newest failed requests", recent.data) : h("p", { class: "muted" }, "None."),
          { flush: true },
        ),
      ),
    ],
  };
}
