// Dialogs and forms. What the API finds wrong with a field is said at that field.

import { fill, freshId, h, put } from "./dom.js";
import { draw } from "./icons.js";
import { notice } from "./notice.js";

/** Open a dialog with this inside; returns how to close it. Escape and the button close it, and focus goes back. */
export function dialog(title, inside, { broad = false, footer = null, onclose = null } = {}) {
  const titleId = freshId("dialog");
  const close = () => node.close();
  const node = h(
    "dialog",
    { class: broad ? "broad" : null, "aria-labelledby": titleId },
    h("div", { class: "inside" }, heading(title, titleId, close), inside, footer && h("footer", null, footer(close))),
  );
  return shown(node, close, onclose);
}

function heading(title, titleId, close) {
  return h(
    "header",
    null,
    h("h2", { id: titleId }, title),
    h("button", { type: "button", class: "button plain slim", "aria-label": "Close", onclick: close }, draw("close")),
  );
}

function shown(node, close, onclose = null) {
  const before = document.activeElement;
  node.addEventListener("close", () => {
    node.remove();
    if (before?.isConnected) before.focus();
    onclose?.();
  });
  document.body.append(node);
  node.showModal();
  return close;
}

/**
 * A form in a dialog. `fields`: see `field`. `submit(values)` talks to the API; what it returns goes to `done`, and the dialog
 * closes; what it throws is shown. Values: texts, null where empty; booleans of checks.
 */
export function form(title, fields, { submit, done = null, button = "Save", danger = false, about = null } = {}) {
  const titleId = freshId("dialog");
  const wrong = h("div", { "aria-live": "polite" });
  const made = fields.map(field);
  const press = h("button", { type: "submit", class: danger ? "button primary danger" : "button primary" }, button);
  const close = () => node.close();
  const node = h(
    "dialog",
    { "aria-labelledby": titleId },
    h(
      "form",
      {
        novalidate: true,
        onsubmit: async (event) => {
          event.preventDefault();
          put(wrong);
          for (const each of made) each.complain(null);
          press.disabled = true;
          try {
            const result = await submit(
              Object.fromEntries(made.filter((each) => each.name).map((each) => [each.name, each.value()])),
            );
            close();
            await done?.(result);
          } catch (error) {
            if (error.status === undefined) throw error;
            const at = error.param && made.find((each) => each.name && error.param.split(/[.[]/)[0] === each.name);
            if (at) at.complain(error.message);
            else put(wrong, h("div", { class: "problem", role: "alert" }, error.message));
          } finally {
            press.disabled = false;
          }
        },
      },
      heading(title, titleId, close),
      about && h("p", { class: "muted" }, about),
      wrong,
      h(
        "div",
        { class: "fields" },
        made.map((each) => each.node),
      ),
      h("footer", null, h("button", { type: "button", class: "button", onclick: close }, "Cancel"), press),
    ),
  );
  return shown(node, close);
}

/**
 * A field: {name, label, kind, value, options, hint, full, required, placeholder}. Kinds: text, email, number, date, time, area,
 * select ({value: label} or [[value, label]]), check, own (`node` and `value()` are its own).
 */
export function field(spec) {
  const { kind = "text", name = null } = spec;
  if (kind === "own")
    return {
      name,
      node: h("div", { class: "field full" }, spec.node),
      value: spec.read,
      complain: spec.complain ?? (() => {}),
    };
  const id = freshId("field");
  const wrong = h("span", { class: "wrong", id: `${id}-wrong` });
  const props = {
    id,
    name,
    required: spec.required,
    placeholder: spec.placeholder,
    "aria-describedby": `${id}-hint ${id}-wrong`,
    autocomplete: "off",
  };
  const input = control(kind, props, spec);
  const complain = (text) => {
    put(wrong, text ?? "");
    input.setAttribute("aria-invalid", String(Boolean(text)));
    if (text) input.focus();
  };
  const hint = spec.hint && h("span", { class: "hint", id: `${id}-hint` }, spec.hint);
  if (kind === "check") {
    return {
      name,
      complain,
      value: () => input.checked,
      node: h(
        "div",
        { class: "field full" },
        h("label", { class: "check" }, input, h("span", null, spec.label, hint && h("span", { class: "sub" }, hint))),
        wrong,
      ),
    };
  }
  return {
    name,
    complain,
    value: () => read(kind, input.value),
    node: h(
      "div",
      { class: spec.full ? "field full" : "field" },
      h("label", { for: id }, spec.label, spec.required && h("span", { class: "muted" }, " (required)")),
      input,
      hint,
      wrong,
    ),
  };
}

function control(kind, props, { value, options }) {
  if (kind === "check") return h("input", { ...props, type: "checkbox", checked: Boolean(value) });
  if (kind === "area") return h("textarea", { ...props, value: value ?? "" });
  if (kind === "select") {
    const node = h(
      "select",
      props,
      (Array.isArray(options) ? options : Object.entries(options)).map(([key, label]) =>
        h("option", { value: key }, label),
      ),
    );
    node.value = value ?? node.value;
    return node;
  }
  const type = { time: "datetime-local", number: "text" }[kind] ?? kind;
  return h("input", { ...props, type, inputmode: kind === "number" ? "decimal" : null, value: value ?? "" });
}

function read(kind, text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  return kind === "time" ? new Date(trimmed).toISOString() : trimmed;
}

/** Ask before something that can't be taken back. */
export function confirm(title, text, { button, submit, done }) {
  form(title, [], { about: text, button, danger: true, submit, done });
}

/** A secret that is shown once, with a button that copies it. */
export function showSecret(title, secret, about) {
  const copied = h("span", { class: "unseen", role: "status" });
  const press = h(
    "button",
    {
      type: "button",
      class: "button primary",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(secret);
          put(press, "Copied");
          put(copied, "Copied");
        } catch {
          // No clipboard without TLS on another host: the text is selected, for the keyboard to copy.
          getSelection().selectAllChildren(code);
          notice("Press Ctrl+C to copy the selected key.");
        }
      },
    },
    "Copy",
  );
  const code = h("code", { "data-secret": true }, secret);
  dialog(
    title,
    fill(h("div", { class: "stack" }), h("p", null, about), h("div", { class: "secret" }, code, press), copied),
    { footer: (close) => h("button", { type: "button", class: "button", onclick: close }, "Done") },
  );
}

/** Tags as lines of name=value. */
export const tagsText = (tags) =>
  Object.entries(tags ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join("\n");
export function tagsOf(text) {
  const pairs = (text ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => line.split(/=(.*)/s));
  return Object.fromEntries(pairs.map(([name, value]) => [name.trim(), (value ?? "").trim()]));
}
