// The table: a row for each entry, a hundred at a time.

import { COLUMNS, shown, sorted } from "./cells.js";
import { format } from "./address.js";
import { breakable, h } from "./dom.js";

const PAGE = 100;
// What a phone leaves out.
const WIDE = new Set([
  "method",
  "backbone",
  "size",
  "data",
  "images",
  "steps",
  "target",
  "weights",
  "flops",
  "licence",
  "state",
]);

/** The table of rows. `change(state)` sorts, `compare(name, on)` marks for comparison. */
export function table(all, state, { change, compare }) {
  const order = sorted(all, state.sort, state.descending);
  const body = h("tbody");
  const more = h("button", { type: "button", class: "more", onclick: () => add() });
  let count = 0;
  const add = () => {
    body.append(...order.slice(count, count + PAGE).map((row) => line(row, state, compare)));
    count = Math.min(count + PAGE, order.length);
    more.textContent = `Show ${Math.min(PAGE, order.length - count)} more of ${order.length}`;
    more.hidden = count === order.length;
  };
  add();
  const head = COLUMNS.map((column) => header(column, state, change));
  const grid = h(
    "table",
    {},
    h("caption", { class: "hidden" }, "Entries of the catalogue"),
    h(
      "thead",
      {},
      h("tr", {}, h("th", { scope: "col" }, h("span", { class: "hidden" }, "compare")), head),
    ),
    body,
  );
  return h(
    "div",
    {},
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of entries" },
      grid,
    ),
    more,
  );
}

function kind(column) {
  return [column.number && "number", WIDE.has(column.key) && "wide", column.key]
    .filter(Boolean)
    .join(" ");
}

function header(column, state, change) {
  const active = state.sort === column.key;
  const descending = active ? !state.descending : Boolean(column.number && column.key !== "loss");
  const mark = active ? (state.descending ? "▼" : "▲") : "";
  const sort = active ? (state.descending ? "descending" : "ascending") : null;
  return h(
    "th",
    { scope: "col", class: kind(column), "aria-sort": sort },
    h(
      "button",
      {
        type: "button",
        "data-sort": column.key,
        onclick: () => change({ sort: column.key, descending }),
      },
      column.label,
      h("span", { "aria-hidden": "true" }, mark),
    ),
  );
}

function line(row, state, compare) {
  const box = h("input", {
    type: "checkbox",
    "aria-label": `Compare ${row.name}`,
    checked: state.compare.includes(row.name),
    onchange: (event) => compare(row.name, event.target.checked),
  });
  const link = h(
    "a",
    { href: format({ ...state, compare: [], cell: row.name }) },
    breakable(row.name),
  );
  const cells = COLUMNS.slice(1).map((column) =>
    h("td", { class: kind(column) }, shown(column.key, row[column.key])),
  );
  return h("tr", {}, h("td", {}, box), h("th", { scope: "row", class: "name" }, link), cells);
}
