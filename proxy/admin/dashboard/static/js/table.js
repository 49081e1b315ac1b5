// Tables: sortable by buttons in their heads, scrolling within themselves, pages below.

import { here } from "./address.js";
import { freshId, h } from "./dom.js";
import * as format from "./format.js";
import { draw } from "./icons.js";

/**
 * A table. `columns`: {key, label, show(row), number, sort, wide}; `sort` is the name the API sorts by (or true for the rows at
 * hand), `wide` columns are left out on narrow screens, the first column heads its row. `sorted`: {by, order}; `onsort(by, order)`.
 */
export function table(caption, columns, rows, { sorted = null, onsort = null, link = null, label = null } = {}) {
  const titleId = freshId("caption");
  const heads = columns.map((column) => {
    const active = sorted && column.sort && sorted.by === column.sort;
    const props = {
      scope: "col",
      class: classes(column),
      "aria-sort": active ? (sorted.order === "asc" ? "ascending" : "descending") : null,
    };
    if (!column.sort || !onsort)
      return h("th", props, column.label || h("span", { class: "unseen" }, column.spoken ?? "Actions"));
    const next = active && sorted.order === "desc" ? "asc" : active ? "desc" : (column.first ?? "desc");
    return h(
      "th",
      props,
      h(
        "button",
        { type: "button", "data-sort": column.sort, onclick: () => onsort(column.sort, next) },
        column.label,
        active && draw(sorted.order === "asc" ? "up" : "down"),
      ),
    );
  });
  const body = rows.map((row) => {
    const href = link?.(row);
    return h(
      "tr",
      {
        class: href ? "row-link" : null,
        onclick: href ? (event) => followed(event, href) : null,
        "data-row": row.id ?? row.key ?? null,
      },
      columns.map((column, index) =>
        h(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: classes(column) }, column.show(row)),
      ),
    );
  });
  return h(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": titleId },
    h(
      "table",
      null,
      h("caption", { class: "unseen", id: titleId }, label ?? caption),
      h("thead", null, h("tr", null, heads)),
      h("tbody", null, body),
    ),
  );
}

const classes = (column) => [column.number && "number", column.wide && "wide-only"].filter(Boolean).join(" ") || null;

function followed(event, href) {
  if (event.target.closest("a, button, input, summary") || String(getSelection())) return;
  dispatchEvent(new CustomEvent("follow", { detail: href }));
}

/** Sort rows at hand by a column's `value`. */
export function sortRows(rows, columns, { by, order }) {
  const column = columns.find((each) => each.sort === by);
  if (!column?.value) return rows;
  const sign = order === "asc" ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [one, two] = [column.value(a), column.value(b)];
    if (one === two) return 0;
    if (one === null || one === undefined) return 1;
    if (two === null || two === undefined) return -1;
    return sign * (typeof one === "string" ? one.localeCompare(two) : one - two);
  });
}

/** What the address says about sorting. */
export const sortedOf = (query, by, order = "desc") => ({
  by: query.get("sort") ?? by,
  order: query.get("order") ?? order,
});

/** Sorting by the address, so that it can be shared. */
export const sortHere = (by, order) =>
  dispatchEvent(new CustomEvent("follow", { detail: here({ sort: by, order, page: null }) }));

/** Links to the page before and after, by page number in the address. */
export function pager({ page, limit, total, total_pages: pages }, what = "row") {
  if (!total) return null;
  const first = (page - 1) * limit + 1;
  const step = (to, label) =>
    to < 1 || to > pages
      ? h("button", { type: "button", class: "button slim", disabled: true }, label)
      : h("a", { class: "button slim", href: here({ page: to === 1 ? null : to }) }, label);
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    h(
      "span",
      null,
      total <= limit
        ? format.plural(total, what)
        : `${format.number(first)}–${format.number(Math.min(total, page * limit))} of ${format.plural(total, what)}`,
    ),
    pages > 1 && h("div", null, step(page - 1, "Previous"), step(page + 1, "Next")),
  );
}
