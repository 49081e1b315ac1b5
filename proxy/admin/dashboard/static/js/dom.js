// Elements without templates: every text is a text node, so nothing that a client sent can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: attributes, `on…` listeners, `style` (custom properties too), `class`; false and null are left out. */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [each, set] of Object.entries(value)) node.style.setProperty(each, set);
    else if (name === "value" || name === "checked" || name === "indeterminate") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  return fill(node, ...children);
}

/** Append children: nodes, texts, numbers, lists of these; null and false are left out. */
export function fill(node, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Replace all children. */
export function put(node, ...children) {
  node.replaceChildren();
  return fill(node, ...children);
}

/** An icon of one or more path strings on a grid of 20, drawn as lines; hidden from screen readers. */
export function icon(...paths) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({
    viewBox: "0 0 20 20",
    fill: "none",
    stroke: "currentColor",
    "stroke-width": "1.6",
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
    "aria-hidden": "true",
    focusable: "false",
  }))
    svg.setAttribute(name, value);
  for (const d of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

let numbers = 0;

/** An id that no other element of this page has. */
export function freshId(kind) {
  numbers += 1;
  return `${kind}-${numbers}`;
}
