"""The pictures of a study. Colours run from dark to light with the amount, so grey shows it too."""

import textwrap
from pathlib import Path
from typing import Any

from mimzoo_training.files import write_file
from mimzoo_training.study.laws import COLUMNS, Law
from mimzoo_training.study.rows import (
    Row,
    accuracy_label,
    amount,
    average,
    correlation,
    overfitted,
    pick,
    values,
)

MARKERS = "osD^vP*X"
WIDTH, HEIGHT = 3.4, 3.6
# Of a caption, so that none is cut off.
CHARACTERS_AN_INCH = 17


def loss_against_length(rows: list[Row], path: Path, caption: str) -> None:
    """Validation loss against steps: a panel for each size, a line for each amount of data.

    A ring marks runs that are longer and worse than a shorter one on the same images.
    """
    sizes = values(rows, "size")
    figure, panels = _panels(len(sizes), share_y=True)
    for size, axes in zip(sizes, panels, strict=True):
        _lengths(axes, rows, size)
    panels[0].set_ylabel("validation loss")
    _legend(panels, "images")
    _save(figure, path, f"{caption} Ring: worse than a shorter run.")


def accuracy_against_loss(rows: list[Row], accuracy: str, path: Path, caption: str) -> None:
    """Accuracy of each run against its validation loss, with Pearson's r overall and by size."""
    rows = [row for row in rows if row.get(accuracy) is not None]
    sizes, amounts = values(rows, "size"), sorted(set(values(rows, "images")))
    figure, (axes,) = _panels(1, width=6.4)
    _scatter(axes, rows, accuracy)
    markers = {}
    for number, size in enumerate(sizes):
        r = correlation(pick(rows, size=size), "val_loss", accuracy)
        sign = _sign(MARKERS[number % len(MARKERS)], "white")
        markers[size if r is None else f"{size}  r = {r.value:.2f}"] = sign
    r = correlation(rows, "val_loss", accuracy)
    summary = "" if r is None else f"all {len(rows)} runs: r = {r}"
    axes.set_title(summary, fontsize="medium")
    colours = {
        amount(pick(rows, images=images)[0]): _sign("o", _colour(number, len(amounts)))
        for number, images in enumerate(amounts)
    }
    # One legend: two would lie over the caption.
    found = {**markers, "\nimages": _sign("", "white"), **colours}
    figure.legend(
        found.values(),
        found.keys(),
        title="size",
        loc="outside right upper",
        fontsize="small",
        title_fontsize="small",
        alignment="left",
    )
    _save(figure, path, caption)


def accuracy_against_data(rows: list[Row], accuracy: str, path: Path, caption: str) -> None:
    """Accuracy against images: a panel for each length, a line for each size."""
    rows = [row for row in rows if row.get(accuracy) is not None]
    lengths = sorted(set(values(rows, "steps")))
    figure, panels = _panels(len(lengths), share_y=True)
    for steps, axes in zip(lengths, panels, strict=True):
        _amounts(axes, rows, accuracy, steps)
    panels[0].set_ylabel(f"{accuracy_label(accuracy)}, %")
    _legend(panels, "size")
    _save(figure, path, caption)


def overview(rows: list[Row], accuracy: str, path: Path, caption: str) -> None:
    """Four panels: loss against length of the smallest and the largest size, accuracy against
    images at the greatest length, and accuracy against loss.
    """
    sizes, steps = values(rows, "size"), max(values(rows, "steps"))
    figure, panels = _panels(2, 2)
    panels[1].sharey(panels[0])
    for axes, size in zip(panels, (sizes[0], sizes[-1]), strict=False):
        _lengths(axes, rows, size)
        axes.set_ylabel("validation loss")
    _legend(panels[:2], "images")
    rows = [row for row in rows if row.get(accuracy) is not None]
    _amounts(panels[2], rows, accuracy, steps)
    panels[2].set_ylabel(f"{accuracy_label(accuracy)}, %")
    _legend(panels[2:3], "size")
    _scatter(panels[3], rows, accuracy)
    r = correlation(rows, "val_loss", accuracy)
    panels[3].set_title("" if r is None else f"all {len(rows)} runs: r = {r}", fontsize="medium")
    signs = "Ring: worse than a shorter run. Last panel: colours as above, shapes as beside."
    _save(figure, path, f"{caption} {signs}")


def compare(rows: list[Row], accuracy: str, by: str, path: Path, caption: str) -> None:
    """Accuracy of models against what they cost: `by` is images_seen or seconds.

    All are of the most images that the study has; those of one family share colour and marker.
    """
    rows = [row for row in rows if row.get(accuracy) is not None and row.get(by) is not None]
    rows = pick(rows, images=max(values(rows, "images")))
    figure, (axes,) = _panels(1, width=5.2)
    families = values(rows, "family")
    for number, family in enumerate(families):
        for n, model in enumerate(values(pick(rows, family=family), "model")):
            group = pick(rows, model=model)
            points = [
                (average(pick(group, steps=steps), by).value, *point[1:])
                for steps, point in zip(
                    sorted(set(values(group, "steps"))),
                    _points(group, "steps", accuracy, 100),
                    strict=True,
                )
            ]
            _line(axes, points, number, len(families), family if n == 0 else None)
    label = {"images_seen": "images seen", "seconds": "seconds of training"}[by]
    axes.set(xlabel=label, ylabel=f"{accuracy_label(accuracy)}, %", xscale="log")
    costs = [row[by] for row in rows]
    ticks = (k * 10**n for n in range(12) for k in (1, 2, 5))
    _plain_ticks(axes, [t for t in ticks if min(costs) / 1.5 <= t <= max(costs) * 1.5])
    axes.legend(fontsize="small")
    _save(figure, path, caption)


def laws(found: list[Law], path: Path, caption: str) -> None:
    """A panel for each law: points, curve, and the band of 95 % of the bootstrap samples."""
    figure, panels = _panels(len(found))
    for axes, law in zip(panels, found, strict=True):
        axes.plot(*zip(*law.points, strict=True), "o", color="black", label="best runs")
        x, low, high = zip(*law.band, strict=True)
        curve = [law.floor.value + law.scale.value * at**-law.exponent.value for at in x]
        axes.plot(x, curve, color=_colour(0, 2), label="fit")
        axes.fill_between(x, low, high, color=_colour(1, 2), alpha=0.4, label="95 % of samples")
        axes.set(xlabel=COLUMNS[law.column], xscale="log")
        title = f"exponent {law.exponent}\nfloor {law.floor}"
        axes.set_title(title if law.determined else "not determined", fontsize="small")
    panels[0].set_ylabel("best validation loss")
    panels[-1].legend(fontsize="small")
    _save(figure, path, caption)


# --- parts --------------------------------------------------------------------------------------


def _lengths(axes: Any, rows: list[Row], size: str) -> None:
    """Loss of one size against steps, a line for each amount of data."""
    amounts, worse = sorted(set(values(rows, "images"))), overfitted(rows)
    for number, images in enumerate(amounts):
        group = pick(rows, size=size, images=images)
        if not group:
            continue
        points = _points(group, "steps", "val_loss")
        _line(axes, points, number, len(amounts), amount(group[0]))
        if any(key[1:] == (size, images) for key in worse):
            axes.plot(*points[-1][:2], "o", markersize=13, fillstyle="none", color="black")
    axes.set(title=size, xlabel="steps", xscale="log")
    _plain_ticks(axes, sorted({row["steps"] for row in rows}))


def _amounts(axes: Any, rows: list[Row], accuracy: str, steps: int) -> None:
    """Accuracy after so many steps against images, a line for each size."""
    sizes = values(rows, "size")
    for number, size in enumerate(sizes):
        points = _points(pick(rows, size=size, steps=steps), "images", accuracy, 100)
        if points:
            _line(axes, points, number, len(sizes), size)
    axes.set(title=f"{steps:,} steps", xlabel="images", xscale="log")


def _scatter(axes: Any, rows: list[Row], accuracy: str) -> None:
    """Accuracy against loss: colour = images, shape = size."""
    amounts = sorted(set(values(rows, "images")))
    for number, size in enumerate(values(rows, "size")):
        group = pick(rows, size=size)
        axes.scatter(
            [row["val_loss"] for row in group],
            [100 * row[accuracy] for row in group],
            c=[_colour(amounts.index(row["images"]), len(amounts)) for row in group],
            marker=MARKERS[number % len(MARKERS)],
            edgecolors="black",
            linewidths=0.5,
            s=40,
        )
    axes.set(xlabel="validation loss", ylabel=f"{accuracy_label(accuracy)}, %")


def _panels(
    count: int, rows: int = 1, share_y: bool = False, width: float = WIDTH
) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count + 0.4, HEIGHT * rows), layout="constrained")
    panels = figure.subplots(rows, count, squeeze=False, sharey=share_y).ravel()
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure, list(panels)


def _colour(number: int, count: int) -> Any:
    from matplotlib import colormaps

    # The lightest colours vanish on white.
    return colormaps["cividis"](0.9 * number / max(1, count - 1))


def _sign(marker: str, colour: Any) -> Any:
    """A point of a legend."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], marker=marker, color=colour, markeredgecolor="black", markeredgewidth=0.5, ls=""
    )


def _points(group: list[Row], x: str, y: str, scale: float = 1.0) -> list[tuple]:
    """(x, mean of y, its std over seeds), by x."""
    found = [
        (value, average(pick(group, **{x: value}), y)) for value in sorted(set(values(group, x)))
    ]
    return [(value, m.value * scale, m.spread * scale) for value, m in found if m is not None]


def _line(axes: Any, points: list[tuple], number: int, count: int, label: str | None) -> None:
    x, y, spread = zip(*points, strict=True)
    axes.errorbar(
        x,
        y,
        yerr=spread if any(spread) else None,
        capsize=3,
        marker=MARKERS[number % len(MARKERS)],
        color=_colour(number, count),
        label=label,
    )


def _legend(panels: list[Any], title: str) -> None:
    """One for all panels, of which some may lack a line."""
    found: dict[str, Any] = {}
    for axes in panels:
        found |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    panels[-1].legend(
        found.values(), found.keys(), title=title, fontsize="small", title_fontsize="small"
    )


def _plain_ticks(axes: Any, steps: list[int]) -> None:
    axes.set_xticks(steps, [f"{s / 1000:g}k" if s >= 1000 else str(s) for s in steps])
    axes.minorticks_off()


def _save(figure: Any, path: Path, caption: str) -> None:
    caption = textwrap.fill(caption, int(CHARACTERS_AN_INCH * figure.get_figwidth()))
    figure.supxlabel(caption, fontsize="x-small", color="0.3")
    write_file(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
