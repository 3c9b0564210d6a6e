// The page of one entry, and two entries side by side.

import { percent, shown } from "./cells.js";
import { breakable, h } from "./dom.js";
import { curve } from "./plots.js";

const FACTS = [
  ["method", (row) => row.method],
  ["backbone", (row) => `${row.backbone}, ${row.size}`],
  ["weights", (row) => shown("weights", row.weights)],
  ["image size", (row) => (row.entry.pixels ? `${row.entry.pixels} px` : "–")],
  ["pretraining data", (row) => `${row.data}, ${shown("images", row.images)} images`],
  ["length", (row) => `${row.length}, ${shown("steps", row.steps)} steps`],
  ["target", (row) => row.target],
  ["fine-tuned on", (row) => row.finetuned || "–"],
  ["state", (row) => row.state],
  ["licence of the weights", (row) => row.licence],
  ["source", (row) => row.entry.source],
  ["paper", (row) => row.entry.paper || "–"],
  [
    "operations of pretraining",
    (row) => (row.flops ? `${shown("flops", row.flops)} FLOP, by formula` : "–"),
  ],
  [
    "time of pretraining",
    (row) => (row.seconds ? `${Math.round(row.seconds).toLocaleString("en")} s, measured` : "–"),
  ],
  ["hash of the weights", (row) => row.entry.hash ?? "–"],
];
const COMMANDS = { load: "Load it", finetune: "Fine-tune it on your images", train: "Train it" };

/** The page of an entry. */
export function page(row, width, { compare }) {
  const { entry } = row;
  return [
    h("h1", { tabindex: -1 }, breakable(row.name)),
    h("p", {}, h("button", { type: "button", onclick: compare }, "Compare with another entry")),
    h("h2", {}, "Commands"),
    Object.entries(COMMANDS)
      .filter(([key]) => entry.commands[key])
      .map(([key, title]) => command(title, entry.commands[key])),
    h("h2", {}, "Results"),
    entry.results.length ? results(entry) : h("p", {}, "No results yet."),
    entry.curve.length
      ? [h("h2", {}, "Loss curve"), h("figure", {}, curve(entry.curve, width))]
      : [],
    entry.pictures.map((name) => [
      h("h2", {}, "Reconstructions"),
      h("img", {
        src: `pictures/${encodeURIComponent(row.name)}/${name}`,
        class: "picture",
        alt: `Test images, masked and reconstructed by ${row.name}`,
      }),
    ]),
    h("h2", {}, "Facts"),
    h(
      "dl",
      {},
      FACTS.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value(row))]),
    ),
    entry.card
      ? h("details", {}, h("summary", {}, "Model card"), h("pre", { tabindex: 0 }, entry.card))
      : null,
  ]
    .flat(Infinity)
    .filter(Boolean);
}

function command(title, text) {
  const line = h("pre", { tabindex: 0 }, text);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Browsers may forbid it, and have no clipboard on pages without encryption.
      getSelection().selectAllChildren(line);
      button.textContent = "Selected";
    }
  };
  const button = h("button", { type: "button", onclick: copy }, "Copy");
  return h("div", { class: "command" }, h("h3", {}, title), button, line);
}

/** The value of a result, with its unit. */
function value(result) {
  const unit = /accuracy|, %$/.test(result.metric) ? "%" : "";
  return shown("value", percent(result)) + unit;
}

function results(entry) {
  const lines = entry.results.map((result) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, result.metric.replace(/, %$/, "")),
      h("td", { class: "number" }, value(result)),
      h("td", {}, result.shown ? result.kind : `${result.kind}, of another training`),
      h(
        "td",
        {},
        result.source ??
          [result.note, result.data, result.date].filter(Boolean).join("; "),
      ),
    ),
  );
  const head = ["result", "value", "kind", "source"].map((name) => h("th", { scope: "col" }, name));
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Results" },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, lines)),
  );
}

/** Two entries side by side; what differs is marked. */
export function comparison(one, other) {
  const byMetric = (row) =>
    new Map(
      row.entry.results.filter((r) => r.shown).map((r) => [r.metric.replace(/, %$/, ""), value(r)]),
    );
  const [a, b] = [byMetric(one), byMetric(other)];
  const facts = FACTS.map(([name, value]) => [name, value(one), value(other)]);
  const measured = [...new Set([...a.keys(), ...b.keys()])].map((m) => [
    m,
    a.get(m) ?? "–",
    b.get(m) ?? "–",
  ]);
  const lines = [...measured, ...facts].map(([name, x, y]) =>
    h(
      "tr",
      { class: x === y ? "same" : null },
      h("th", { scope: "row" }, name),
      h("td", {}, x),
      h("td", {}, y),
      h("td", {}, x === y ? "" : h("span", { role: "img", "aria-label": "differs" }, "≠")),
    ),
  );
  const head = [
    ["entry"],
    breakable(one.name),
    breakable(other.name),
    [h("span", { class: "hidden" }, "difference")],
  ];
  return [
    h("h1", { tabindex: -1 }, "Two entries side by side"),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Comparison" },
      h(
        "table",
        { class: "comparison" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head.map((name) => h("th", { scope: "col" }, name)),
          ),
        ),
        h("tbody", {}, lines),
      ),
    ),
  ];
}
