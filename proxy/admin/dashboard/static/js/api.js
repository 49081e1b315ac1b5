// The admin API, as the dashboard asks it: with the session cookie, and a header that no forged request has.

const CHANGES = { "content-type": "application/json", "x-dashboard": "1" };

/** An answer that is no success, in the API's own words. `status` 0: no answer at all. */
export class ApiError extends Error {
  constructor(status, message, code = "", param = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** `{days: 7, model: ["a", "b"], user: null}` as a query string; nothing for what is empty. */
export function queryOf(params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length)) continue;
    query.set(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}

async function ask(method, path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      headers: method === "GET" ? {} : CHANGES,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The proxy does not answer. Is it running, and is the network up?");
  }
  const text = await answer.text();
  let parsed = null;
  try {
    parsed = text ? JSON.parse(text) : null;
  } catch {
    parsed = null;
  }
  if (answer.ok) return parsed;
  const told = parsed?.error ?? {};
  if (answer.status === 401 && path !== "/dashboard/session") dispatchEvent(new CustomEvent("signed-out"));
  throw new ApiError(answer.status, told.message ?? `The proxy answered ${answer.status}.`, told.code, told.param);
}

export const get = (path, params, signal) => ask("GET", path + queryOf(params), undefined, signal);
export const post = (path, body, signal) => ask("POST", path, body ?? {}, signal);
export const put = (path, body) => ask("PUT", path, body);
export const patch = (path, body) => ask("PATCH", path, body);
export const remove = (path) => ask("DELETE", path);

/** Many statistics in one request: `{name: [path, params]}` to `{name: answer}`; one that failed is an ApiError. */
export async function bulk(queries, signal) {
  const asked = Object.entries(queries).map(([name, [path, params]]) => ({ name, path: path + queryOf(params) }));
  const { results } = await post("/admin/stats/bulk", { queries: asked }, signal);
  return Object.fromEntries(
    Object.entries(results).map(([name, { status, body }]) => [
      name,
      status < 400 ? body : new ApiError(status, body.error.message, body.error.code, body.error.param),
    ]),
  );
}

/** The answer, or its error thrown. */
export function sound(answer) {
  if (answer instanceof ApiError) throw answer;
  return answer;
}
