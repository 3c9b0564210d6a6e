"""The results of a study as rows, and the statistics that figures and findings need."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from mimzoo_training.files import write_file
from mimzoo_training.study.sampling import SAMPLINGS
from mimzoo_training.study.spec import Study, data_label

Row = dict[str, Any]
COLUMNS = (
    "name",
    "family",
    "model",
    "size",
    "data",
    "images",
    "sampling",
    "length",
    "steps",
    "images_seen",
    "seed",
    "weights",
    "flops",
    "seconds",
    "loss",
    "val_loss",
)
ACCURACIES = ("top1", "finetune_", "probe_", "knn_")


class Mean(NamedTuple):
    """Mean, std (0 for one value) and number of values over seeds."""

    value: float
    spread: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.spread:.2g}" if self.count > 1 else f"{self.value:.4g}"


def measured(row: Row) -> list[str]:
    """Names of the accuracies of a row."""
    return [name for name in row if name.startswith(ACCURACIES)]


def accuracies(rows: Iterable[Row]) -> list[str]:
    """Names of all accuracies, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in measured(row)))


def values(rows: Iterable[Row], name: str) -> list[Any]:
    """The different values of a column, in the order in which they first come."""
    return list(dict.fromkeys(row[name] for row in rows))


def average(rows: Iterable[Row], column: str) -> Mean | None:
    """Over rows that have the column; None if none has."""
    found = [row[column] for row in rows if row.get(column) is not None]
    if not found:
        return None
    return Mean(mean(found), stdev(found) if len(found) > 1 else 0.0, len(found))


def pick(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Rows with these values."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


class Correlation(NamedTuple):
    """Pearson's r, and the interval that holds 95 % of its bootstrap samples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def correlation(rows: Iterable[Row], x: str, y: str) -> Correlation | None:
    """Pearson's r of two columns over the rows that have both; None for fewer than three.

    The interval comes from 2,000 draws of as many rows, with replacement, of a fixed seed.
    """
    import numpy as np

    pairs = [(r[x], r[y]) for r in rows if r.get(x) is not None and r.get(y) is not None]
    if len(pairs) < 3:
        return None
    pairs = np.array(pairs, "float64")
    drawn = np.random.default_rng(0).integers(len(pairs), size=(2000, len(pairs)))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = _pearson(pairs[None])[0]
        samples = _pearson(pairs[drawn])
    if not np.isfinite(r):
        return None
    low, high = np.nanpercentile(samples, [2.5, 97.5])  # a draw of one row repeated has no r
    return Correlation(float(r), float(low), float(high))


def _pearson(pairs: Any) -> Any:
    """(draws, rows, 2) -> r of each draw."""
    centred = pairs - pairs.mean(axis=1, keepdims=True)
    x, y = centred[..., 0], centred[..., 1]
    return (x * y).sum(1) / ((x * x).sum(1) * (y * y).sum(1)) ** 0.5


def overfitted(rows: list[Row]) -> dict[tuple, float]:
    """(family, size, images) -> by how much the longest run's validation loss is above the best.

    Only where a shorter run on the same images is better by more than the spread over seeds.
    """
    found = {}
    for key, group in grouped(rows, ("family", "size", "images")).items():
        pair = longest_and_best(group)
        if pair is not None:
            (_, longest), (_, best) = pair
            rise = longest.value - best.value
            if rise > max(longest.spread, best.spread):
                found[key] = rise
    return found


def longest_and_best(rows: list[Row]) -> tuple[tuple[int, Mean], tuple[int, Mean]] | None:
    """(steps, validation loss) of the longest run of one model and of the best shorter one.

    None where there is one length only.
    """
    by_length = {
        steps: average(pick(rows, steps=steps), "val_loss") for steps in values(rows, "steps")
    }
    known = sorted((steps, loss) for steps, loss in by_length.items() if loss is not None)
    if len(known) < 2:
        return None
    return known[-1], min(known[:-1], key=lambda run: run[1].value)


def grouped(rows: Iterable[Row], names: tuple[str, ...]) -> dict[tuple, list[Row]]:
    """Values of columns -> the rows that have them."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return found


def published_rows(study: Study) -> list[Row]:
    """Rows of what others published of a study's cells, from mimzoo's catalogue.

    Raises:
        ValueError: nothing was published of any cell.
    """
    from mimzoo.hub.catalogue import catalogue

    rows = []
    for cell in study.cells:
        recipe = cell.recipe()
        preset = catalogue().get(recipe.name)
        by = preset.checkpoint.by if preset is not None and preset.checkpoint else None
        entries = [e for e in preset.published if e["by"] == by] if by else []
        found = {entry["key"]: entry["value"] for entry in entries}
        if "loss" not in found:
            continue
        steps, _ = recipe.steps(recipe.num_examples)
        rows.append(
            {
                "name": recipe.name,
                "model": cell.label,
                "family": cell.family(recipe),
                "size": cell.size(recipe),
                "data": cell.data,
                "images": recipe.num_examples,
                "length": cell.length,
                "steps": steps,
                "images_seen": steps * recipe.batch_size,
                "seed": 0,
                "val_loss": found["loss"],
                **({"top1": found["top1"] / 100} if "top1" in found else {}),
                "source": entries[0]["source"],
            }
        )
    if not rows:
        raise ValueError(f"nobody published results of the cells of {study.name}.")
    return rows


def write_csv(rows: list[Row], path: Path) -> None:
    """All rows and columns, whole or not at all."""
    extra = list(dict.fromkeys(k for row in rows for k in row if k not in COLUMNS))
    names = [n for n in COLUMNS if any(n in row for row in rows)] + extra

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_file(path, write)


def read_csv(path: Path) -> list[Row]:
    """Rows of `write_csv`, numbers as numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{k: _number(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    kinds: tuple[Callable[[str], Any], ...] = (int, float, str)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def amount(row: Row) -> str:
    """What a row's data is called."""
    data = row["data"]
    drawn = "" if is_balanced(row) else f", {row['sampling']}"
    return data_label(data) if isinstance(data, str) else f"{row['images']:,}{drawn}"


def is_balanced(row: Row) -> bool:
    """Whether a row's images were drawn as in all studies that do not compare ways to do so."""
    return row.get("sampling", SAMPLINGS[0]) == SAMPLINGS[0]


def accuracy_label(name: str) -> str:
    """What an accuracy is called in figures and tables."""
    kind, _, labels = name.partition("_")
    if kind == "top1":
        return "top-1 accuracy, fine-tuned"
    called = {"finetune": "fine-tuned on", "probe": "linear probe on", "knn": "kNN on"}
    return f"accuracy, {called[kind]} {int(labels):,} labels"
