// Three scatter plots of the same rows. A click opens an entry, a drag selects a range.

import * as Plot from "@observablehq/plot";

import { h } from "./dom.js";

const PLOTS = [
  { key: "loss", title: "Loss and accuracy", label: "validation loss →", type: "linear" },
  {
    key: "images",
    title: "Data and accuracy",
    label: "images in pretraining →",
    type: "log",
    tickFormat: "~s",
  },
  {
    key: "flops",
    title: "Compute and accuracy",
    label: "FLOP of pretraining →",
    type: "log",
    tickFormat: (value) =>
      /^[125]e/.test(value.toExponential()) ? value.toExponential(0).replace("+", "") : "",
  },
];
const SYMBOLS = ["circle", "triangle", "square", "diamond", "star", "cross", "wye"];
// Okabe and Ito's, in an order that differs in lightness too.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#a0568c", "#8a6d00", "#56b4e9", "#777777"];

/** Scales that all plots share, so that a method keeps its symbol whatever the filter is. */
export function scales(methods) {
  return {
    symbol: { domain: methods, range: methods.map((_, i) => SYMBOLS[i % SYMBOLS.length]) },
    color: { domain: methods, range: methods.map((_, i) => COLOURS[i % COLOURS.length]) },
    r: { range: [2.5, 7], type: "sqrt" },
  };
}

/** The plots and their legend. `open(name)` and `select(ranges)` are called by clicks and drags. */
export function plots(rows, shared, width, { open, select }) {
  const legend = Plot.legend({ symbol: shared.symbol, color: shared.color });
  legend.setAttribute("aria-hidden", "true");
  return [
    ...PLOTS.map((plot) => figure(plot, rows, shared, width, open, select)),
    h(
      "div",
      { class: "legend" },
      legend,
      h(
        "p",
        {},
        "Larger marks are larger models. Click a mark to open it, drag to select a range.",
      ),
    ),
  ];
}

function figure({ key, title, label, type, tickFormat }, rows, shared, width, open, select) {
  const points = rows.filter((row) => row[key] !== null && row.accuracy !== null);
  const caption = h("figcaption", {}, `${title} (${points.length})`);
  if (!points.length) {
    return h(
      "figure",
      { "data-plot": key },
      caption,
      h("p", { class: "none" }, "No entry shown here has both numbers."),
    );
  }
  const channels = { x: key, y: "accuracy" };
  const svg = Plot.plot({
    ...shared,
    width,
    height: 250,
    marginLeft: 48,
    marginRight: 16,
    marginBottom: 38,
    grid: true,
    ariaLabel: `${title}: ${points.length} entries, the same numbers as in the table`,
    inset: 8,
    x: { type, label, labelOffset: 34, ticks: 5, ...(tickFormat && { tickFormat }) },
    y: { label: "↑ accuracy, %", nice: true, ticks: 6 },
    marks: [
      Plot.dot(points, {
        ...channels,
        symbol: "method",
        stroke: "method",
        r: "weights",
        strokeWidth: 1.4,
      }),
      Plot.tip(points, Plot.pointer({ ...channels, title: "name", fontSize: 12 })),
    ],
  });
  const drawing = svg.tagName === "svg" ? svg : svg.querySelector("svg");
  image(drawing);
  brush(drawing, svg, key, open, select);
  return h("figure", { "data-plot": key }, caption, svg);
}

/** One picture for screen readers, named as a whole: the table has its numbers. */
function image(svg) {
  svg.setAttribute("role", "img");
  for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
}

/** A rectangle drawn with the mouse becomes ranges; touch scrolls, and taps open. */
function brush(drawing, plot, key, open, select) {
  const rectangle = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rectangle.setAttribute("class", "brush");
  let start = null;
  let dragged = false;
  const place = (event) => {
    const box = drawing.getBoundingClientRect();
    const scale = drawing.viewBox.baseVal.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const begin = (event) => {
    start = event.button === 0 && event.pointerType !== "touch" ? place(event) : null;
    dragged = false;
  };
  // Plot's own pointer stops this event where a mark is near.
  drawing.addEventListener("pointerdown", begin, { capture: true });
  drawing.addEventListener("pointermove", (event) => {
    if (!start) return;
    const end = place(event);
    const [x, y] = [0, 1].map((i) => Math.min(start[i], end[i]));
    const [w, t] = [0, 1].map((i) => Math.abs(start[i] - end[i]));
    for (const [name, value] of Object.entries({ x, y, width: w, height: t }))
      rectangle.setAttribute(name, value);
    drawing.append(rectangle);
  });
  drawing.addEventListener("pointerleave", () => {
    start = null;
    rectangle.remove();
  });
  drawing.addEventListener("pointerup", (event) => {
    const [from, to] = [start, place(event)];
    start = null;
    rectangle.remove();
    if (!from || Math.hypot(from[0] - to[0], from[1] - to[1]) < 6) return;
    dragged = true;
    const range = (name, i) =>
      [from[i], to[i]]
        .map((at) => +plot.scale(name).invert(at).toPrecision(4))
        .sort((a, b) => a - b);
    // After the click that follows, which would otherwise meet the plots drawn next.
    setTimeout(() => select({ [key]: range("x", 0), accuracy: range("y", 1) }));
  });
  drawing.addEventListener("click", () => {
    if (plot.value && !dragged) open(plot.value.name);
  });
}

/** Loss over the steps of a training. */
export function curve(points, width) {
  const lines = [
    ["loss", "training", "4 3"],
    ["val_loss", "validation", null],
  ]
    .map(([y, name, dashes]) => {
      const own = points.filter((point) => point[y] !== undefined);
      return { y, name, dashes, own, last: own.slice(-1) };
    })
    .filter(({ own }) => own.length);
  const top = lines.toSorted((a, b) => b.last[0][b.y] - a.last[0][a.y])[0];
  const svg = Plot.plot({
    width,
    height: 240,
    marginRight: 80,
    grid: true,
    ariaLabel: `Loss over ${points.at(-1).step} steps`,
    x: { label: "step →", tickFormat: "~s" },
    y: { label: "↑ loss", nice: true },
    marks: lines.flatMap((line) => [
      Plot.lineY(line.own, {
        x: "step",
        y: line.y,
        strokeDasharray: line.dashes,
        stroke: COLOURS[line.dashes ? 0 : 1],
        strokeWidth: 2,
      }),
      Plot.text(line.last, {
        x: "step",
        y: line.y,
        text: () => line.name,
        textAnchor: "start",
        dx: 8,
        dy: line === top ? -6 : 6,
      }),
    ]),
  });
  image(svg);
  return svg;
}
