// What the page shows <-> the part of its address behind "#". Pure functions.

import { COLUMNS, FACETS, RANGES } from "./cells.js";

export const START = {
  query: "",
  facets: {},
  ranges: {},
  metric: "",
  sort: "accuracy",
  descending: true,
  cell: "",
  compare: [],
};

/** The state in an address; what it does not name, or names wrongly, is as in START. */
export function parse(hash) {
  const search = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...START, facets: {}, ranges: {} };
  state.query = search.get("q") ?? "";
  state.metric = search.get("metric") ?? "";
  state.cell = search.get("cell") ?? "";
  state.compare = (search.get("compare") ?? "").split(",").filter(Boolean).slice(0, 2);
  const sort = search.get("sort") ?? "";
  const key = sort.replace(/^-/, "");
  if (COLUMNS.some((column) => column.key === key)) {
    state.sort = key;
    state.descending = sort.startsWith("-");
  }
  for (const facet of FACETS) if (search.get(facet)) state.facets[facet] = search.get(facet);
  for (const name of RANGES) {
    const limits = (search.get(`${name}_range`) ?? "").split("..");
    if (limits.length !== 2) continue;
    const [low, high] = limits.map((text) => (text && Number.isFinite(+text) ? +text : null));
    if (low !== null || high !== null) state.ranges[name] = [low, high];
  }
  return state;
}

/** The inverse of `parse`. */
export function format(state) {
  const search = new URLSearchParams();
  if (state.cell) search.set("cell", state.cell);
  if (state.compare.length) search.set("compare", state.compare.join(","));
  if (state.query) search.set("q", state.query);
  for (const [facet, value] of Object.entries(state.facets)) if (value) search.set(facet, value);
  for (const [name, [low, high]] of Object.entries(state.ranges)) {
    search.set(`${name}_range`, `${low ?? ""}..${high ?? ""}`);
  }
  if (state.metric) search.set("metric", state.metric);
  if (state.sort !== START.sort || state.descending !== START.descending) {
    search.set("sort", (state.descending ? "-" : "") + state.sort);
  }
  const text = search.toString();
  return text ? `#${text}` : "#";
}
