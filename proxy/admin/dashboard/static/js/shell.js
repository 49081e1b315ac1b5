// The frame around every page: navigation, account, theme, the banner of the demo mode.

import { link } from "./address.js";
import { repaint } from "./charts.js";
import { h, put } from "./dom.js";
import { draw } from "./icons.js";
import { everywhere, isUser, session } from "./session.js";

const USAGE = [
  ["/", "Overview", "overview"],
  ["/users", "Users", "users"],
  ["/groups", "Groups", "groups"],
  ["/models", "Models", "models"],
  ["/endpoints", "Endpoints", "endpoints"],
  ["/operations", "Operations", "operations"],
  ["/requests", "Requests", "requests"],
  ["/errors", "Errors", "errors"],
];
const MANAGE = [
  ["/keys", "Keys", "keys"],
  ["/quotas", "Quotas and plans", "plans"],
  ["/prices", "Prices", "prices"],
  ["/admin-keys", "Admin keys", "admins", true],
  ["/audit", "Audit log", "audit", true],
];
const OWN = [
  ["/", "My usage", "overview"],
  ["/requests", "My requests", "requests"],
];

/** The frame and its `main`. `onsignout` is called by the button. */
export function shell({ onsignout }) {
  const who = session();
  const main = h("main", { id: "main", tabindex: "-1" });
  const links = [];
  const entry = ([path, label, drawing]) => {
    const node = h("a", { href: link(path), "data-path": path }, draw(drawing), label);
    links.push(node);
    return h("li", null, node);
  };
  // Each section is a heading and a list, so that alerts and reports will be one more.
  const section = (title, entries) => entries.length > 0 && [h("h2", null, title), h("ul", null, entries.map(entry))];
  const nav = h(
    "nav",
    { class: "nav", id: "nav", "aria-label": "Main" },
    isUser()
      ? section("My account", OWN)
      : [
          section("Usage", USAGE),
          section(
            "Manage",
            MANAGE.filter((each) => !each[3] || everywhere()),
          ),
        ],
  );
  const side = h("aside", { class: "side" }, brand(), nav, account(who, onsignout));
  const menu = menuBar(() => setMenu(!frame.classList.contains("open")));
  const veil = h("div", { class: "veil", hidden: true, onclick: () => setMenu(false) });
  const frame = h(
    "div",
    { class: "frame" },
    side,
    h(
      "div",
      { class: "stage" },
      menu.node,
      who.simulated &&
        h("p", { class: "simulated" }, "Simulated: no OpenAI key is set, so every answer and its cost are made up."),
      main,
    ),
    veil,
  );
  function setMenu(open) {
    frame.classList.toggle("open", open);
    veil.hidden = !open;
    menu.button.setAttribute("aria-expanded", String(open));
    if (open) links[0].focus();
  }
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && frame.classList.contains("open")) {
      setMenu(false);
      menu.button.focus();
    }
  });
  const node = [
    h(
      "a",
      {
        class: "button skip",
        href: "#main",
        onclick: (event) => {
          event.preventDefault();
          main.focus();
        },
      },
      "Skip to content",
    ),
    frame,
  ];
  return { node, main, mark: (path) => mark(links, path), closeMenu: () => setMenu(false) };
}

function mark(links, path) {
  const section = `/${path.split("/")[1] ?? ""}`;
  for (const node of links) {
    node.href = link(node.dataset.path);
    if (node.dataset.path === section) node.setAttribute("aria-current", "page");
    else node.removeAttribute("aria-current");
  }
}

function brand() {
  const source = document.querySelector('link[rel="icon"]').href;
  return h(
    "a",
    { class: "brand", href: link("/") },
    h("img", { src: source, alt: "", width: "26", height: "26" }),
    "OpenAI usage",
  );
}

function menuBar(toggle) {
  const button = h(
    "button",
    {
      type: "button",
      class: "button plain",
      "aria-label": "Menu",
      "aria-expanded": "false",
      "aria-controls": "nav",
      onclick: toggle,
    },
    draw("menu"),
  );
  return { button, node: h("div", { class: "menu-bar" }, brand(), button) };
}

function account(who, onsignout) {
  const role = { user: "Your own usage", admin_key: "Admin key", jwt: "Administrator" }[who.kind];
  const reach =
    who.kind === "user"
      ? who.group_name
      : [who.scope === "read" ? "may read" : null, who.group_name].filter(Boolean).join(", ");
  return h(
    "div",
    { class: "account" },
    h(
      "div",
      { class: "who" },
      h("strong", null, who.name ?? who.id),
      h("span", { class: "muted small" }, [role, reach].filter(Boolean).join(" · ")),
    ),
    themeSwitch(),
    h("button", { type: "button", class: "button slim", onclick: onsignout }, "Sign out"),
  );
}

/** Light or dark, remembered in this browser. */
export function themeSwitch() {
  const root = document.documentElement;
  const button = h("button", {
    type: "button",
    class: "button slim",
    onclick: () => set(root.dataset.theme === "dark" ? "light" : "dark", true),
  });
  function show() {
    const dark = root.dataset.theme === "dark";
    put(button, draw(dark ? "sun" : "moon"), dark ? "Light" : "Dark");
    button.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
  }
  function set(theme, keep) {
    root.dataset.theme = theme;
    if (keep) {
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // A browser that keeps nothing shows the system's choice next time.
      }
    }
    show();
    repaint();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    if (!stored()) set(event.matches ? "dark" : "light", false);
  });
  show();
  return button;
}

function stored() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}
