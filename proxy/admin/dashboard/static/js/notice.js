// Short messages at the edge of the page, read out by screen readers.

import { h } from "./dom.js";

const SHOWN_MS = 6000;

/** Say that something was done, or (`bad`) that it was not; a bad one stays until it is closed. */
export function notice(text, { bad = false } = {}) {
  const close = () => node.remove();
  const node = h(
    "div",
    { class: bad ? "notice bad" : "notice" },
    h("span", null, text),
    h("button", { type: "button", onclick: close }, "Close"),
  );
  document.getElementById("notices").append(node);
  if (!bad) setTimeout(close, SHOWN_MS);
}
