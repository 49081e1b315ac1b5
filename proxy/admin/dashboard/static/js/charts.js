// Charts: Chart.js drawn in the page's own colours, with a legend of buttons and the same numbers as a table.

import { h } from "./dom.js";
import { table } from "./table.js";

const SERIES = 8;
const drawn = new Map();

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The variable of a series' colour; what comes after the eighth, and "other", is grey. */
export const colour = (index) => `var(--s${index < SERIES ? index + 1 : SERIES + 1})`;

const colourNow = (index) => css(`--s${index < SERIES ? index + 1 : SERIES + 1}`);

/** Colours changed: draw every chart that is still on the page anew. */
export function repaint() {
  for (const [canvas, { chart, options }] of drawn) {
    if (!canvas.isConnected) {
      chart.destroy();
      drawn.delete(canvas);
      continue;
    }
    Object.assign(chart, { options: settings(options) });
    chart.data.datasets.forEach((set, index) => Object.assign(set, look(options, options.series[index], index)));
    chart.update("none");
  }
}

/** Forget charts whose page is gone. */
export function sweep() {
  for (const [canvas, { chart }] of drawn) {
    if (!canvas.isConnected) {
      chart.destroy();
      drawn.delete(canvas);
    }
  }
}

/**
 * A chart over time. `options`: label, keys (the axis), name(key), series [{label, values, colour}], value(number) for texts,
 * axis(number) for the scale, kind ("bar" or "line"), stacked, low.
 */
export function chart(options) {
  const canvas = h("canvas", { role: "img", "aria-label": summary(options) });
  const place = h("div", { class: options.low ? "chart low" : "chart" }, canvas);
  // A chart measures its place, so it is made once that is on the page.
  requestAnimationFrame(() => {
    if (!canvas.isConnected || !window.Chart) return;
    const made = new window.Chart(canvas, {
      type: options.kind ?? "bar",
      data: {
        labels: options.keys.map(options.name),
        datasets: options.series.map((each, index) => ({
          label: each.label,
          data: each.values,
          ...look(options, each, index),
        })),
      },
      options: settings(options),
    });
    drawn.set(canvas, { chart: made, options });
  });
  const legend =
    options.series.length > 1 &&
    h(
      "div",
      { class: "legend", role: "group", "aria-label": "Series" },
      options.series.map((each, index) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": "true",
            title: each.label,
            style: { "--series": colour(each.colour ?? index) },
            onclick: (event) => {
              const made = drawn.get(canvas)?.chart;
              if (!made) return;
              const shown = !made.isDatasetVisible(index);
              made.setDatasetVisibility(index, shown);
              made.update();
              event.currentTarget.setAttribute("aria-pressed", String(shown));
            },
          },
          h("i", { "aria-hidden": "true" }),
          h("span", null, each.label),
        ),
      ),
    );
  return h("figure", null, place, legend, asTable(options));
}

const sum = (values) => values.reduce((total, each) => total + (each ?? 0), 0);

function summary({ label, keys, name, series, value }) {
  if (!keys.length) return label;
  const parts = series
    .slice(0, SERIES)
    .map((each) => `${each.label} ${value(each.average ? each.average : sum(each.values))}`);
  return `${label}, ${name(keys[0])} to ${name(keys.at(-1))}: ${parts.join(", ")}. The numbers follow as a table.`;
}

function asTable({ label, keys, name, series, value }) {
  const details = h("details", { class: "as-table" }, h("summary", null, "As a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const columns = [
      { label: "Time", show: (index) => name(keys[index]) },
      ...series.map((each) => ({ label: each.label, number: true, show: (index) => value(each.values[index] ?? 0) })),
    ];
    details.append(
      table(
        label,
        columns,
        keys.map((_, index) => index),
      ),
    );
  });
  return details;
}

function look(options, series, index) {
  const tint = colourNow(series.colour ?? index);
  if ((series.kind ?? options.kind) === "line") {
    return {
      type: "line",
      borderColor: tint,
      backgroundColor: tint,
      borderWidth: 2,
      borderDash: series.dashed ? [5, 4] : [],
      pointRadius: 0,
      pointHitRadius: 12,
      tension: 0.25,
      order: series.kind ? 0 : 1,
    };
  }
  return {
    backgroundColor: tint,
    hoverBackgroundColor: tint,
    borderWidth: 0,
    borderRadius: 2,
    maxBarThickness: 42,
    categoryPercentage: 0.86,
    barPercentage: 0.94,
    order: 1,
  };
}

function settings({ value, axis, stacked }) {
  const [muted, line, surface, text] = ["--muted", "--line", "--raised", "--text"].map(css);
  const family = css("--sans");
  const ticks = { color: muted, font: { size: 11.5, family } };
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: false,
    interaction: { mode: "index", intersect: false },
    layout: { padding: { top: 4 } },
    plugins: {
      legend: { display: false },
      tooltip: {
        backgroundColor: surface,
        borderColor: line,
        borderWidth: 1,
        titleColor: text,
        bodyColor: text,
        footerColor: text,
        padding: 10,
        boxPadding: 4,
        cornerRadius: 8,
        usePointStyle: true,
        titleFont: { family },
        bodyFont: { family },
        footerFont: { family },
        filter: (item) => item.raw !== 0,
        itemSort: (a, b) => b.raw - a.raw,
        callbacks: {
          label: (item) => ` ${item.dataset.label}: ${value(item.raw)}`,
          footer: (items) => (stacked && items.length > 1 ? `Sum: ${value(sum(items.map((item) => item.raw)))}` : ""),
        },
      },
    },
    scales: {
      x: {
        stacked,
        grid: { display: false },
        border: { color: line },
        ticks: { ...ticks, maxRotation: 0, autoSkipPadding: 18 },
      },
      y: {
        stacked,
        beginAtZero: true,
        grid: { color: line },
        border: { display: false },
        ticks: { ...ticks, maxTicksLimit: 6, callback: (number) => (axis ?? value)(number) },
      },
    },
  };
}
