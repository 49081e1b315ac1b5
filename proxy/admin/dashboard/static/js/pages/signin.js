// Signing in, with whatever one has.

import { h, put } from "../dom.js";
import { session, signIn } from "../session.js";
import { themeSwitch } from "../shell.js";

/** The form; `done` is called when somebody is signed in. */
export function signInPage(done) {
  document.title = "Sign in · OpenAI usage";
  const input = h("input", {
    id: "credential",
    type: "password",
    name: "credential",
    required: true,
    autocomplete: "current-password",
    "aria-describedby": "credential-hint wrong",
    spellcheck: "false",
  });
  const wrong = h("p", { id: "wrong", class: "wrong", role: "alert" });
  const button = h("button", { type: "submit", class: "button primary" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    const credential = input.value.trim();
    put(wrong, credential ? "" : "Enter a key or a token.");
    if (!credential) return input.focus();
    button.disabled = true;
    try {
      await signIn(credential);
      done();
    } catch (error) {
      put(wrong, error.status === 401 ? "This key or token is unknown, expired or revoked." : error.message);
      input.setAttribute("aria-invalid", "true");
      input.select();
    } finally {
      button.disabled = false;
    }
  };
  const icon = document.querySelector('link[rel="icon"]').href;
  const form = h(
    "form",
    { class: "card field", onsubmit: submit, novalidate: true },
    h("div", { class: "brand" }, h("img", { src: icon, alt: "", width: "26", height: "26" }), "OpenAI usage"),
    h("h1", null, "Sign in"),
    h(
      "div",
      { class: "field" },
      h("label", { for: "credential" }, "Key or token"),
      input,
      h(
        "span",
        { class: "hint", id: "credential-hint" },
        "An admin key or a token shows everything it may see; a proxy key (sk-proxy-…) shows its user's own usage.",
      ),
      wrong,
    ),
    button,
    session().simulated && h("p", { class: "tag warn" }, "Simulated: answers are made up"),
    h("div", null, themeSwitch()),
  );
  requestAnimationFrame(() => input.focus());
  return h("main", { class: "sign-in" }, form);
}
