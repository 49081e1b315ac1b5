// Starts the dashboard: who is signed in, which page the address means, and following links without loading anew.

import { BASE, current } from "./address.js";
import { ApiError } from "./api.js";
import { sweep } from "./charts.js";
import { h, put } from "./dom.js";
import * as format from "./format.js";
import { notice } from "./notice.js";
import { admins } from "./pages/admins.js";
import { audit } from "./pages/audit.js";
import { endpoints, operations } from "./pages/dimensions.js";
import { errors } from "./pages/errors.js";
import { group, groups } from "./pages/groups.js";
import { keys } from "./pages/keys.js";
import { myRequests, myUsage } from "./pages/me.js";
import { models } from "./pages/models.js";
import { overview } from "./pages/overview.js";
import { prices } from "./pages/prices.js";
import { plan, quotas } from "./pages/quotas.js";
import { requests } from "./pages/requests.js";
import { signInPage } from "./pages/signin.js";
import { user } from "./pages/user.js";
import { users } from "./pages/users.js";
import { empty, head, problem } from "./parts.js";
import { isUser, load, session, signOut } from "./session.js";
import { shell } from "./shell.js";

/** Pattern -> page: a function of {params, query, signal, again} that returns {title, node}, at once or later. */
const ADMIN = {
  "/": overview,
  "/users": users,
  "/users/:id": user,
  "/groups": groups,
  "/groups/:id": group,
  "/models": models,
  "/endpoints": endpoints,
  "/operations": operations,
  "/requests": requests,
  "/errors": errors,
  "/keys": keys,
  "/quotas": quotas,
  "/plans/:id": plan,
  "/prices": prices,
  "/admin-keys": admins,
  "/audit": audit,
};
const OWN = { "/": myUsage, "/requests": myRequests };

const app = document.getElementById("app");
let frame = null;
let running = null;

function match(path) {
  for (const [pattern, page] of Object.entries(isUser() ? OWN : ADMIN)) {
    const names = [];
    const expression = pattern.replace(/:([a-z]+)/g, (_, name) => {
      names.push(name);
      return "([^/]+)";
    });
    const found = new RegExp(`^${expression}$`).exec(path);
    if (found)
      return {
        page,
        params: Object.fromEntries(names.map((name, index) => [name, decodeURIComponent(found[index + 1])])),
      };
  }
  return null;
}

/** Show the page of the address. `moved`: the reader followed a link, so focus and scrolling start anew. */
async function show(moved) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const path = decodeURI(location.pathname.slice(BASE.length)).replace(/\/+$/, "") || "/";
  const query = current();
  format.showIn(query.get("currency") ?? "USD");
  frame.mark(path);
  frame.main.setAttribute("aria-busy", "true");
  const found = match(path);
  const again = () => show(false);
  let made;
  try {
    made = found ? await found.page({ params: found.params, query, signal, again }) : missing();
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted || error.status === 401) return;
    if (!(error instanceof ApiError)) throw error;
    made =
      error.status === 404
        ? missing(error.message)
        : { title: "Not loaded", node: [head("Not loaded"), problem(error, again)] };
  }
  if (signal.aborted) return;
  put(frame.main, made.node);
  frame.main.setAttribute("aria-busy", "false");
  sweep();
  document.title = `${made.title} · OpenAI usage`;
  if (moved) {
    scrollTo(0, 0);
    frame.main.querySelector("h1")?.focus({ preventScroll: true });
  }
}

const missing = (text = "There is no page at this address.") => ({
  title: "Not found",
  node: [
    head("Not found"),
    h(
      "div",
      { class: "card" },
      empty(
        text,
        "It may have been removed, or the address has a mistake.",
        h("a", { class: "button", href: BASE }, "To the overview"),
      ),
    ),
  ],
});

function follow(href) {
  const url = new URL(href, location.href);
  const same = url.pathname === location.pathname;
  if (url.href !== location.href) history.pushState(null, "", url);
  frame.closeMenu();
  show(!same);
}

function start() {
  if (!session().signed_in) {
    frame = null;
    running?.abort();
    put(app, signInPage(start));
    return;
  }
  frame = shell({
    onsignout: async () => {
      running?.abort();
      try {
        await signOut();
      } catch (error) {
        if (error.status !== 401) {
          notice(error.message, { bad: true });
          return;
        }
        await load();
      }
      history.replaceState(null, "", BASE);
      start();
    },
  });
  put(app, frame.node);
  show(false);
}

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href]");
  if (
    !anchor ||
    !frame ||
    event.defaultPrevented ||
    event.button ||
    event.ctrlKey ||
    event.metaKey ||
    event.shiftKey ||
    event.altKey
  )
    return;
  if (anchor.origin !== location.origin || anchor.hasAttribute("download") || anchor.target) return;
  if (anchor.pathname !== BASE && !anchor.pathname.startsWith(`${BASE}/`)) return;
  event.preventDefault();
  follow(anchor.href);
});
addEventListener("follow", (event) => follow(event.detail));
addEventListener("popstate", () => frame && show(true));
addEventListener("signed-out", async () => {
  if (!frame) return;
  frame = null;
  await load();
  start();
  notice("You were signed out. Sign in again to go on.");
});
addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name === "AbortError") return;
  notice(
    event.reason instanceof ApiError
      ? event.reason.message
      : "The page failed; reload it. The browser's console says more.",
    { bad: true },
  );
});

try {
  await load();
  start();
} catch (error) {
  put(
    app,
    h(
      "div",
      { class: "starting" },
      problem(error, () => location.reload()),
    ),
  );
}
