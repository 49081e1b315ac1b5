// Who is signed in.

import * as api from "./api.js";

let known = null;

/** What the proxy says about this browser: {signed_in, kind, name, scope, group, group_name, simulated, currencies, version}. */
export async function load() {
  known = await api.get("/dashboard/session");
  return known;
}

export async function signIn(credential) {
  known = await api.post("/dashboard/session", { credential });
  return known;
}

export async function signOut() {
  known = await api.remove("/dashboard/session");
  return known;
}

export const session = () => known;
/** A user's own view, with a proxy key. */
export const isUser = () => known?.kind === "user";
/** May change things. */
export const mayWrite = () => known?.scope === "write";
/** Sees all groups. */
export const everywhere = () => known?.scope !== null && !known?.group;
