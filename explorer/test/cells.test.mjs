// node --test

import assert from "node:assert/strict";
import test from "node:test";

import { START, format, parse } from "../src/address.js";
import {
  accuracyOf,
  csv,
  filtered,
  metrics,
  percent,
  rows,
  shown,
  sorted,
  values,
} from "../src/cells.js";

const entry = (name, accuracy, more = {}) => ({
  name,
  axes: { method: "mae", backbone: "vit", size: "base", data: "in1k", length: "1ep" },
  images: 1000,
  steps: 10,
  target: "pixels",
  licence: "MIT",
  state: "bundled",
  task: "pretraining",
  grid: "g",
  finetuned: "",
  cost: { weights: 1e6, train_flops: 1e18, seconds: null },
  results:
    accuracy === null
      ? []
      : [
          { metric: "loss", value: 1 - accuracy, shown: true },
          { metric: "top-1", value: 0.1, shown: false },
          { metric: "top-1", value: accuracy, shown: true },
        ],
  ...more,
});
const all = rows(
  [entry("b", 0.5), entry("a", null), entry("c", 0.7, { state: "recipe only" })],
  "top-1",
);

test("the accuracy is that of the weights that load", () => {
  assert.deepEqual(
    all.map((row) => row.accuracy),
    [0.5, null, 0.7],
  );
  assert.deepEqual(
    all.map((row) => row.loss),
    [0.5, null, 1 - 0.7],
  );
  assert.deepEqual(metrics([entry("b", 0.5)]), ["top-1"]);
});

test("the accuracy shown is one that entries have", () => {
  const of = (...names) => ({
    results: names.map((metric) => ({ metric, value: 0.5, shown: metric !== "hidden" })),
  });
  const [many, few] = ["probe on 1,000 labels", "probe on 100 labels"];
  const entries = [of("loss", few, many, "hidden"), of(few, many), of("tuned")];
  assert.deepEqual(accuracyOf(entries, "tuned"), ["tuned", 1]);
  assert.deepEqual(accuracyOf(entries, "hidden"), [many, 2]);
  assert.deepEqual(accuracyOf([...entries, of(few)], "top-1"), [few, 3]);
  assert.deepEqual(accuracyOf([of("loss")], "top-1"), ["top-1", 0]);
});

test("shares of 1 are shown in percent", () => {
  assert.equal(percent({ metric: "accuracy, linear probe", value: 0.5734 }), 57.34);
  assert.equal(percent({ metric: "top-1, %", value: 83.6 }), 83.6);
});

test("filters: words, facets, ranges", () => {
  const names = (state) => filtered(all, state).map((row) => row.name);
  assert.deepEqual(names({}), ["b", "a", "c"]);
  assert.deepEqual(names({ facets: { state: "recipe only", method: "" } }), ["c"]);
  assert.deepEqual(names({ ranges: { accuracy: [0.6, null] } }), ["c"]);
  assert.deepEqual(names({ ranges: { accuracy: [null, 0.6] } }), ["b"]);
  assert.deepEqual(names({ query: " B " }), ["b"]);
});

test("entries without a value come last, both ways", () => {
  assert.deepEqual(
    sorted(all, "accuracy").map((row) => row.name),
    ["b", "c", "a"],
  );
  assert.deepEqual(
    sorted(all, "accuracy", true).map((row) => row.name),
    ["c", "b", "a"],
  );
  assert.deepEqual(values(all, "state"), [
    ["bundled", 2],
    ["recipe only", 1],
  ]);
});

test("an address is read as it was written", () => {
  const state = {
    ...START,
    query: "a b&c",
    facets: { method: "mae-hog" },
    ranges: { loss: [0.1, null] },
    metric: "top-1, %",
    sort: "loss",
    descending: true,
    compare: ["x", "y"],
  };
  assert.deepEqual(parse(format(state)), state);
  assert.equal(format(START), "#");
  assert.deepEqual(parse("#sort=nothing&loss_range=x..y&colour=red"), { ...START });
});

test("CSV: quotes, and no formulas", () => {
  const [row] = rows([entry('=1+"1",2', 0.5, { licence: "@x" })], "top-1");
  const line = csv([row]).split("\r\n")[1];
  assert.ok(line.startsWith(`"'=1+""1"",2",mae,`));
  assert.ok(line.includes(",'@x,"));
  assert.equal(csv([]).split("\r\n").length, 2);
});

test("values are shown short", () => {
  assert.equal(shown("images", 1281167), "1.28M");
  assert.equal(shown("flops", 8.5e20), "8.5e20");
  assert.equal(shown("loss", 0.30000000000000004), "0.3");
  assert.equal(shown("accuracy", null), "–");
});
