// Requests: as rows of a table, one in full, and live as they are stored.

import { queryOf } from "./api.js";
import { link } from "./address.js";
import { h, put } from "./dom.js";
import * as format from "./format.js";
import { dialog } from "./forms.js";
import { ending, facts } from "./parts.js";
import { isUser } from "./session.js";
import { table } from "./table.js";

const none = (text) => text ?? h("span", { class: "muted" }, "–");

/** The columns of requests; `who` with the user's. */
export function recordColumns({ who = true } = {}) {
  return [
    {
      label: "Time",
      show: (row) =>
        h(
          "button",
          {
            type: "button",
            class: "button plain slim",
            title: format.exactTime(row.started_at),
            "data-record": row.id,
            onclick: () => showRecord(row),
          },
          clockOrDate(row.started_at),
          h("span", { class: "sub narrow-only clip" }, row.served_model ?? row.requested_model),
        ),
    },
    who && {
      label: "User",
      show: (row) => h("a", { class: "clip", href: link(`/users/${row.user_id}`) }, row.user_name ?? row.user_id),
    },
    {
      label: "Model",
      wide: true,
      show: (row) =>
        h(
          "span",
          { class: "clip", title: row.served_model ?? row.requested_model },
          none(row.served_model ?? row.requested_model),
        ),
    },
    { label: "Operation", wide: true, show: (row) => h("span", { class: "clip" }, none(row.operation)) },
    { label: "Result", show: ending },
    {
      label: "Input",
      number: true,
      wide: true,
      show: (row) => [
        format.number(row.input_tokens),
        row.cached_input_tokens > 0 &&
          h("span", { class: "sub" }, `${format.percent(row.cached_input_tokens / row.input_tokens)} cached`),
      ],
    },
    { label: "Output", number: true, wide: true, show: (row) => format.number(row.output_tokens) },
    {
      label: "Cost",
      number: true,
      show: (row) => (row.cost_usd === null ? h("span", { class: "tag warn" }, "unknown") : format.cost(row)),
    },
    { label: "Time taken", number: true, wide: true, show: (row) => format.duration(row.duration_ms) },
  ].filter(Boolean);
}

function clockOrDate(text) {
  const today = new Date().toDateString() === new Date(text).toDateString();
  return today ? format.timeOfDay(text) : format.shortTime(text);
}

/** A table of requests. */
export const recordTable = (caption, rows, options) => table(caption, recordColumns(options), rows);

/** One request with every field that says something. */
export function showRecord(row) {
  const tokens = [
    ["cache_write_tokens", "Cache written"],
    ["input_audio_tokens", "Audio input"],
    ["cached_audio_tokens", "Cached audio"],
    ["input_image_tokens", "Image input"],
    ["cached_image_tokens", "Cached image"],
    ["reasoning_tokens", "Reasoning"],
    ["output_audio_tokens", "Audio output"],
    ["output_image_tokens", "Image output"],
  ];
  const user = isUser()
    ? row.user_name
    : h(
        "a",
        { href: link(`/users/${row.user_id}`), onclick: (event) => event.target.closest("dialog").close() },
        row.user_name ?? row.user_id,
      );
  const list = facts(
    [
      ["Started", format.exactTime(row.started_at)],
      ["Result", ending(row)],
      ["User", user],
      ["Group", row.group_name],
      ["Endpoint", `${row.method} ${row.endpoint}`],
      ["Provider", row.provider],
      ["Model asked for", row.requested_model],
      ["Model that served", row.served_model],
      ["Operation", row.operation],
      ["End user", row.end_user],
      [
        "Tags",
        Object.entries(row.tags)
          .map(([name, value]) => `${name}=${value}`)
          .join(", "),
      ],
      ["Service tier", row.service_tier],
      ["Input tokens", format.number(row.input_tokens)],
      ["Of these cached", format.number(row.cached_input_tokens)],
      ["Output tokens", format.number(row.output_tokens)],
      ["All tokens", format.number(row.total_tokens)],
      ...tokens.filter(([name]) => row[name]).map(([name, label]) => [label, format.number(row[name])]),
      ...Object.entries(row.units).map(([name, count]) => [
        format.titled(name.replaceAll("_", " ")),
        format.number(count),
      ]),
      ["Cost", row.cost_usd === null ? "unknown: the model has no price" : format.cost(row)],
      ["Price", row.price_id],
      ["Usage was", row.usage_source],
      ["Finish reason", row.finish_reason],
      ["First byte after", row.ttfb_ms === null ? null : format.duration(row.ttfb_ms)],
      ["Time taken", format.duration(row.duration_ms)],
      ["Streamed", row.streamed ? "yes" : "no"],
      ["Bytes in, out", `${format.number(row.bytes_in)}, ${format.number(row.bytes_out)}`],
      ["Error", [row.error_type, row.error_code].filter(Boolean).join(" · ")],
      ["Message", row.error_message],
      ["Key", h("code", null, row.key_id)],
      ["Object", row.object_id && h("code", null, row.object_id)],
      ["Upstream's request id", row.upstream_request_id && h("code", null, row.upstream_request_id)],
      ["Client's request id", row.client_request_id && h("code", null, row.client_request_id)],
      ["Request id", h("code", null, row.id)],
      ["Part of", row.parent_id && h("code", null, row.parent_id)],
      ["Voided", row.voided_at && `${format.exactTime(row.voided_at)}: ${row.voided_reason}`],
    ],
    { two: true },
  );
  dialog("Request", list, { broad: true });
}

const SHOWN = 12;

/**
 * New requests as they are stored: a table that grows at the top, and a button that holds it. `first` are the newest so far.
 * It stops with `signal`.
 */
export function liveTail({ first, filters = {}, signal, shown = SHOWN }) {
  let rows = first.slice(0, shown);
  const fresh = new Set();
  const place = h("div");
  const state = h(
    "span",
    { class: "live", role: "status" },
    h("i", { "aria-hidden": "true" }),
    h("span", null, "Connecting…"),
  );
  const button = h(
    "button",
    { type: "button", class: "button slim", "aria-pressed": "false", onclick: () => (source ? stop("Paused") : run()) },
    "Pause",
  );
  let source = null;
  const say = (text, on) => {
    state.classList.toggle("on", on);
    put(state.lastChild, text);
  };
  function draw() {
    if (!rows.length)
      return put(place, h("p", { class: "muted" }, "No request yet. The next one appears here by itself."));
    put(place, recordTable("Newest requests", rows));
    for (const node of place.querySelectorAll("tbody tr"))
      if (fresh.delete(node.dataset.row)) node.classList.add("new");
    return place;
  }
  function stop(text) {
    source?.close();
    source = null;
    put(button, "Resume");
    say(text, false);
  }
  function run() {
    put(button, "Pause");
    source = new EventSource(`/admin/records/live${queryOf(filters)}`);
    source.onopen = () => say("Live", true);
    source.onerror = () =>
      source?.readyState === EventSource.CLOSED
        ? stop("Not live: the proxy ended it")
        : say("Connecting again…", false);
    source.addEventListener("record", (event) => {
      const row = JSON.parse(event.data);
      if (rows.some((each) => each.id === row.id)) return;
      fresh.add(row.id);
      rows = [row, ...rows].slice(0, shown);
      draw();
    });
  }
  signal.addEventListener("abort", () => source?.close());
  draw();
  run();
  return { node: place, tools: [state, button] };
}
