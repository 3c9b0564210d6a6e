// Entries of the catalogue as flat rows: filtered, sorted, written as CSV. Pure functions.

export const COLUMNS = [
  { key: "name", label: "entry" },
  { key: "method", label: "method" },
  { key: "backbone", label: "backbone" },
  { key: "size", label: "size" },
  { key: "data", label: "data" },
  { key: "images", label: "images", number: true },
  { key: "steps", label: "steps", number: true },
  { key: "target", label: "target" },
  { key: "loss", label: "loss", number: true },
  { key: "accuracy", label: "accuracy, %", number: true },
  { key: "weights", label: "weights", number: true },
  { key: "flops", label: "FLOP", number: true },
  { key: "licence", label: "licence" },
  { key: "state", label: "state" },
];
export const FACETS = [
  "method",
  "backbone",
  "size",
  "data",
  "length",
  "target",
  "licence",
  "state",
  "results",
  "task",
  "grid",
];
export const RANGES = ["accuracy", "loss", "images", "flops"];

const isLoss = (metric) => /loss|entropy/i.test(metric);

/** Accuracies by how many entries have them, most first. */
export function metrics(entries) {
  const counts = new Map();
  for (const entry of entries) {
    for (const metric of new Set(entry.results.map((result) => result.metric))) {
      if (!isLoss(metric)) counts.set(metric, (counts.get(metric) ?? 0) + 1);
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(([metric]) => metric);
}

const labels = (metric) => Number(/on ([\d,]+) labels/.exec(metric)?.[1].replace(",", "") ?? 0);

/**
 * The accuracy to show of these entries, and how many have it: `wanted`, or where none has it the
 * one that most of them have, of equals that on more labels.
 */
export function accuracyOf(entries, wanted) {
  const counts = new Map();
  for (const entry of entries) {
    const own = entry.results.filter((result) => result.shown).map((result) => result.metric);
    for (const metric of new Set(own)) {
      if (!isLoss(metric)) counts.set(metric, (counts.get(metric) ?? 0) + 1);
    }
  }
  if (!counts.size || counts.has(wanted)) return [wanted, counts.get(wanted) ?? 0];
  return [...counts].sort((a, b) => b[1] - a[1] || labels(b[0]) - labels(a[0]))[0];
}

/** A result as the page shows it: those of ours are shares of 1, published ones are percent. */
export function percent(result) {
  return /accuracy/.test(result.metric) ? +(100 * result.value).toPrecision(6) : result.value;
}

/** Flat rows; `accuracy` is that of `metric`, in percent, of the weights that load. */
export function rows(entries, metric) {
  return entries.map((entry) => {
    const shown = entry.results.filter((result) => result.shown);
    const find = (fits) => {
      const result = shown.find(fits);
      return result ? percent(result) : null;
    };
    return {
      name: entry.name,
      ...entry.axes,
      images: entry.images,
      steps: entry.steps,
      target: entry.target ?? "unknown",
      loss: find((result) => /loss/i.test(result.metric)),
      accuracy: find((result) => result.metric === metric),
      weights: entry.cost?.weights ?? null,
      flops: entry.cost?.train_flops ?? null,
      seconds: entry.cost?.seconds ?? null,
      licence: entry.licence,
      state: entry.state,
      results: entry.results.some((result) => result.kind === "measured")
        ? "measured with mimzoo"
        : entry.results.length
          ? "published"
          : "none",
      task: entry.task,
      grid: entry.grid,
      finetuned: entry.finetuned,
      entry,
    };
  });
}

/** The rows that a state lets through: words of `query`, `facets` and `ranges`. */
export function filtered(all, { query = "", facets = {}, ranges = {} }) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = Object.entries(facets).filter(([, value]) => value);
  const limits = Object.entries(ranges);
  return all.filter(
    (row) =>
      words.every((word) => row.name.toLowerCase().includes(word)) &&
      wanted.every(([key, value]) => row[key] === value) &&
      limits.every(
        ([key, [low, high]]) =>
          row[key] !== null && row[key] >= (low ?? -Infinity) && row[key] <= (high ?? Infinity),
      ),
  );
}

/** Sorted by a column, entries without a value last; sizes by their weights. */
export function sorted(all, key, descending = false) {
  const sign = descending ? -1 : 1;
  const value = key === "size" ? (row) => row.weights : (row) => row[key];
  return all.toSorted((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
    return sign * order || a.name.localeCompare(b.name);
  });
}

/** Values of a facet with how many rows have them, most first. */
export function values(all, key) {
  const counts = new Map();
  for (const row of all) counts.set(row[key], (counts.get(row[key]) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0])));
}

/** RFC 4180; text that a spreadsheet would take for a formula gets an apostrophe. */
export function csv(all) {
  const keys = [
    ...COLUMNS.map((column) => column.key),
    "length",
    "seconds",
    "results",
    "task",
    "finetuned",
    "grid",
  ];
  const field = (value) => {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [keys, ...all.map((row) => keys.map((key) => row[key]))]
    .map((line) => line.map(field).join(",") + "\r\n")
    .join("");
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A value as the page shows it. */
export function shown(key, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (key === "flops") return value.toExponential(1).replace("e+", "e");
  if (key === "images" || key === "weights" || key === "steps") return compact.format(value);
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return String(value);
}
