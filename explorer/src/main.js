// Reads the entries in the page, draws what the address says, and writes changes to the address.

import { START, format, parse } from "./address.js";
import {
  FACETS,
  RANGES,
  accuracyOf,
  csv,
  filtered,
  metrics,
  rows,
  sorted,
  values,
} from "./cells.js";
import { download, h } from "./dom.js";
import { comparison, page } from "./entry.js";
import { plots, scales } from "./plots.js";
import { table } from "./table.js";

performance.mark("begun");
const entries = JSON.parse(document.getElementById("entries").textContent);
const accuracies = metrics(entries);
const byMetric = new Map();
const main = document.querySelector("main");
let state = parse(location.hash);
let view = null; // what is drawn: "list", or the address of an entry

/** The accuracy that the address names, else the one that most entries of the catalogue have. */
const wanted = () => (accuracies.includes(state.metric) ? state.metric : accuracies[0]);

function of(metric) {
  if (!byMetric.has(metric)) byMetric.set(metric, rows(entries, metric));
  return byMetric.get(metric);
}

/** The accuracy shown: another than wanted where no entry that the filters let through has that. */
function accuracy() {
  // A range is one of the wanted accuracy.
  if (state.ranges.accuracy) return [wanted(), null];
  return accuracyOf(
    filtered(of(wanted()), state).map((row) => row.entry),
    wanted(),
  );
}

/** Flat rows with the accuracy shown. */
const all = () => of(accuracy()[0]);

/** Ranges hold for the accuracy that is shown as they are chosen. */
const limit = (ranges) => change({ ranges, ...(ranges.accuracy && { metric: accuracy()[0] }) });

/** Filters change the address in place; opening an entry is a step that "Back" undoes. */
function change(changes) {
  state = { ...state, ...changes };
  history.replaceState(null, "", format(state));
  draw();
}

function go(changes) {
  location.hash = format({ ...state, ...changes });
}

// === The list ===

const parts = {};

function list() {
  const field = (label, control) => h("label", {}, h("span", {}, label), control);
  const select = (name, options, onchange) =>
    h(
      "select",
      { name, onchange: (event) => onchange(event.target.value) },
      options.map(([value, text]) => h("option", { value }, text)),
    );
  parts.query = h("input", {
    type: "search",
    name: "q",
    oninput: (event) => change({ query: event.target.value }),
  });
  parts.metric = select(
    "metric",
    accuracies.map((m) => [m, m]),
    (metric) => change({ metric, ranges: without(state.ranges, "accuracy") }),
  );
  parts.facets = Object.fromEntries(
    FACETS.map((facet) => {
      const options = values(of(wanted()), facet).map(([value, count]) => [value, `${value} (${count})`]);
      return [
        facet,
        select(facet, [["", "all"], ...options], (value) =>
          change({ facets: { ...state.facets, [facet]: value } }),
        ),
      ];
    }),
  );
  parts.ranges = Object.fromEntries(
    RANGES.map((name) => [
      name,
      ["from", "to"].map((side) =>
        h("input", {
          type: "number",
          step: "any",
          "aria-label": `${name} ${side}`,
          placeholder: side,
          onchange: () => limit(typed()),
        }),
      ),
    ]),
  );
  parts.filters = h("summary");
  parts.count = h("p", { class: "count", role: "status" });
  parts.accuracy = h("p", { class: "metric", role: "status" });
  parts.plots = h("section", { class: "plots", "aria-label": "Plots" });
  parts.table = h("section", { "aria-label": "Entries" });
  parts.compare = h("p", { class: "compare", role: "status" });
  const button = (text, onclick) => h("button", { type: "button", onclick }, text);
  main.replaceChildren(
    h("h1", { tabindex: -1 }, "Grid explorer"),
    h(
      "p",
      {},
      "All entries of mimzoo's catalogue: bundled models, models that others released, and recipes, some of them measured with mimzoo. Losses of different methods and targets are not comparable.",
    ),
    h(
      "form",
      { class: "filters", onsubmit: (event) => event.preventDefault() },
      h(
        "div",
        { class: "first" },
        field("name contains", parts.query),
        field("accuracy shown", parts.metric),
      ),
      h(
        "details",
        { open: window.innerWidth > 900 },
        parts.filters,
        h(
          "div",
          { class: "facets" },
          FACETS.map((facet) => field(facet, parts.facets[facet])),
        ),
      ),
      h(
        "details",
        { class: "ranges" },
        h("summary", {}, "Ranges"),
        h(
          "div",
          { class: "facets" },
          RANGES.map((name) =>
            h(
              "fieldset",
              {},
              h("legend", {}, name === "flops" ? "FLOP" : name),
              parts.ranges[name],
            ),
          ),
        ),
      ),
    ),
    h(
      "div",
      { class: "bar" },
      parts.count,
      button("Clear filters", () => change({ query: "", facets: {}, ranges: {} })),
      button("Download CSV", () => download("mimzoo_entries.csv", "text/csv", csv(chosen()))),
      button("Download JSON", () =>
        download(
          "mimzoo_entries.json",
          "application/json",
          JSON.stringify(
            chosen().map((row) => row.entry),
            null,
            1,
          ),
        ),
      ),
    ),
    parts.accuracy,
    parts.plots,
    parts.compare,
    parts.table,
  );
}

const without = (object, key) =>
  Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));

function typed() {
  const number = (input) => (input.value === "" ? null : Number(input.value));
  return Object.fromEntries(
    RANGES.map((name) => [name, parts.ranges[name].map(number)]).filter(([, limits]) =>
      limits.some((limit) => limit !== null),
    ),
  );
}

function chosen() {
  const found = filtered(all(), state);
  return sorted(found, state.sort, state.descending);
}

/** Puts the state into the controls, and draws count, plots and table. */
function update() {
  const found = filtered(all(), state);
  if (parts.query.value !== state.query) parts.query.value = state.query;
  const [metric, count] = accuracy();
  parts.metric.value = metric;
  parts.accuracy.textContent =
    metric === wanted()
      ? ""
      : `No entry shown has "${wanted()}". The accuracy is "${metric}", which ${count} of ${found.length} have.`;
  for (const facet of FACETS) parts.facets[facet].value = state.facets[facet] ?? "";
  const set = Object.values(state.facets).filter(Boolean).length;
  parts.filters.textContent = set ? `Filters (${set} set)` : "Filters";
  for (const name of RANGES) {
    parts.ranges[name].forEach((input, i) => {
      input.value = state.ranges[name]?.[i] ?? "";
    });
  }
  if (Object.keys(state.ranges).length) main.querySelector(".ranges").open = true;
  parts.count.textContent = `${found.length} of ${entries.length} entries`;
  const wide = main.clientWidth;
  const width = wide > 900 ? Math.floor((wide - 32) / 3) : Math.min(wide, 640);
  parts.plots.replaceChildren(
    ...plots(found, shared, width, {
      open: (cell) => go({ cell, compare: [] }),
      select: (ranges) => limit({ ...state.ranges, ...ranges }),
    }),
  );
  const sortedBy = document.activeElement?.dataset?.sort;
  parts.table.replaceChildren(table(found, state, { change, compare: mark }));
  if (sortedBy) parts.table.querySelector(`[data-sort="${sortedBy}"]`).focus();
  parts.compare.replaceChildren(
    state.compare.length === 1 ? `Comparing ${state.compare[0]}: tick a second entry.` : "",
  );
}

/** Marks an entry; the second one opens the comparison. */
function mark(name, on) {
  const compare = on ? [...state.compare, name] : state.compare.filter((other) => other !== name);
  if (compare.length === 2) go({ compare });
  else change({ compare });
}

const shared = scales(values(rows(entries, ""), "method").map(([method]) => method));

// === Entries ===

function detail(found) {
  const back = format({ ...state, cell: "", compare: [] });
  const width = Math.min(main.clientWidth, 640);
  const content =
    found.length === 2
      ? comparison(...found)
      : page(found[0], width, { compare: () => go({ cell: "", compare: [found[0].name] }) });
  main.replaceChildren(h("p", {}, h("a", { href: back }, "← All entries")), ...content);
}

function missing(names) {
  main.replaceChildren(
    h("p", {}, h("a", { href: format(START) }, "← All entries")),
    h("h1", { tabindex: -1 }, "Unknown entry"),
    h("p", {}, `The catalogue has no ${names.join(" and no ")}: the name may have changed.`),
  );
}

// === What the address says ===

function draw() {
  const wanted = state.cell ? [state.cell] : state.compare.length === 2 ? state.compare : [];
  const next = wanted.join() || "list";
  if (next !== "list") {
    const found = wanted.map((name) => all().find((row) => row.name === name));
    if (found.every(Boolean)) detail(found);
    else missing(wanted.filter((_, i) => !found[i]));
  } else {
    if (view !== "list") list();
    update();
  }
  // After a step to another view, the keyboard starts at its heading.
  if (view !== null && view !== next) {
    main.querySelector("h1").focus();
    window.scrollTo(0, 0);
  }
  view = next;
  document.title = next === "list" ? "mimzoo: grid explorer" : `${wanted.join(" and ")} – mimzoo`;
}

window.addEventListener("hashchange", () => {
  state = parse(location.hash);
  draw();
});
let resized = 0;
window.addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(draw, 100);
});
draw();
performance.measure("drawn", "begun");
