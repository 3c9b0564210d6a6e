"""What the three papers found, asked of a study's rows: each a rule that can come out either way.

A: Xie et al., On Data Scaling in Masked Image Modeling. B: Lu et al., Delving Deeper into Data
Scaling in Masked Image Modeling. C: Liu et al., MixMIM. Differences count where they are larger
than the greater deviation over seeds; with one seed they are told, and taken as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mimzoo_training.study.rows import (
    Mean,
    Row,
    accuracies,
    average,
    correlation,
    grouped,
    overfitted,
    pick,
    values,
)

CONFIRMED, REFUTED, UNTESTABLE = "confirmed", "not confirmed", "not testable here"
# Pearson's r from which validation loss is said to tell how well a model transfers.
PREDICTS = -0.5


@dataclass(frozen=True)
class Finding:
    """A sentence of a paper, and what the rows say of it.

    Attributes:
        paper: "A", "B" or "C".
        claim: the sentence.
        verdict: confirmed, not confirmed or not testable here.
        evidence: the numbers.
        figure: kind of the figure that shows it.
    """

    paper: str
    claim: str
    verdict: str
    evidence: list[str]
    figure: str = ""


def judge(rows: list[Row]) -> list[Finding]:
    """All findings, in the order of the papers."""
    known = accuracies(rows)
    accuracy = known[0] if known else ""
    scaling = {f: pick(rows, family=f) for f in values(rows, "family")}
    # A grid has sizes, amounts of data and lengths; single runs beside it are comparisons.
    scaling = {f: g for f, g in scaling.items() if len(set(values(g, "images"))) > 1}
    return [
        loss_predicts(scaling, accuracy),
        small_data_overfits(scaling),
        large_models_overfit_more(scaling),
        length_needs_data(scaling, accuracy),
        more_data_hardly_helps(scaling, accuracy),
        size_needs_data(scaling, accuracy),
        strong_targets_help(rows, accuracy),
        Finding(
            "B",
            "How the images were sampled hardly matters.",
            UNTESTABLE,
            ["all subsets here are random"],
        ),
        mixing_helps(rows, accuracy, "images_seen"),
        mixing_helps(rows, accuracy, "seconds"),
    ]


def loss_predicts(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """A: correlation of validation loss and accuracy, by family and size."""
    evidence, found = [], []
    for family, rows in scaling.items():
        r = correlation(rows, "val_loss", accuracy) if accuracy else None
        if r is None:
            continue
        found.append(r)
        each = {
            size: correlation(pick(rows, size=size), "val_loss", accuracy)
            for size in values(rows, "size")
        }
        told = ", ".join(f"{size} {value:.2f}" for size, value in each.items() if value is not None)
        evidence.append(f"{family}: r = {r:.2f} over {len(rows)} runs (by size: {told})")
    claim = "Validation loss in pretraining tells how well a model fine-tunes."
    verdict = _verdict(found, lambda r: r <= PREDICTS)
    return Finding("A", claim, verdict, evidence, "accuracy_against_loss")


def small_data_overfits(scaling: dict[str, list[Row]]) -> Finding:
    """A: longer runs on the smallest part get worse, on the whole data they do not."""
    evidence, found = [], []
    for family, rows in scaling.items():
        worse = overfitted(rows)
        for size in values(rows, "size"):
            group = pick(rows, size=size)
            amounts = sorted(
                images
                for images in set(values(group, "images"))
                if len(set(values(pick(group, images=images), "steps"))) > 1
            )
            if len(amounts) < 2:
                continue
            ends = amounts[0], amounts[-1]
            least, most = (worse.get((family, size, images), 0.0) for images in ends)
            found.append(least > 0 and most == 0)
            evidence.append(
                f"{family} {size}: loss of the longest run above a shorter one's by {least:.4f} "
                f"with {ends[0]:,} images, by {most:.4f} with {ends[1]:,}"
            )
    claim = "With few images long training overfits: validation loss rises; with many it does not."
    return Finding("A", claim, _verdict(found, bool), evidence, "loss_against_length")


def large_models_overfit_more(scaling: dict[str, list[Row]]) -> Finding:
    """A: what too few images cost in validation loss, in the longest run that all sizes have."""
    evidence, found = [], []
    for family, rows in scaling.items():
        # The amount and length that most sizes have; of these the fewest images, the longest run.
        costs: dict[str, float] = {}
        for (images, steps), _ in sorted(
            grouped(rows, ("images", "steps")).items(), key=lambda item: (item[0][0], -item[0][1])
        ):
            found_here = _excess(rows, images, steps)
            if len(found_here) > len(costs):
                costs, ends = found_here, (images, steps)
        if len(costs) < 2:
            continue
        rises = list(costs.values())
        found.append(rises[-1] > rises[0])
        told = ", ".join(f"{size} {rise:.4f}" for size, rise in costs.items())
        evidence.append(
            f"{family}, {ends[1]:,} steps: loss with {ends[0]:,} images above that with the best "
            f"amount: {told}"
        )
    claim = "Larger models overfit few images more."
    return Finding("A", claim, _verdict(found, bool), evidence, "loss_against_length")


def _excess(rows: list[Row], images: int, steps: int) -> dict[str, float]:
    """Size -> loss with so many images above the best loss with any amount, for as many steps."""
    costs = {}
    for size in _by_weights(rows):
        group = pick(rows, size=size, steps=steps)
        few = average(pick(group, images=images), "val_loss")
        best = [average(g, "val_loss").value for g in grouped(group, ("images",)).values()]
        if few is not None and len(best) > 1:
            costs[size] = few.value - min(best)
    return costs


def length_needs_data(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """A: what the longest run gains over the shortest, with all images and with the fewest."""
    evidence, found = [], []
    for family, rows in scaling.items():
        steps, amounts = sorted(set(values(rows, "steps"))), sorted(set(values(rows, "images")))
        if len(steps) < 2 or not accuracy:
            continue
        ends = amounts[0], amounts[-1]
        for size in values(rows, "size"):
            gains = [
                _difference(
                    average(pick(rows, size=size, images=images, steps=steps[-1]), accuracy),
                    average(pick(rows, size=size, images=images, steps=steps[0]), accuracy),
                )
                for images in ends
            ]
            if None in gains:
                continue
            found.append(gains[1] > gains[0])
            evidence.append(
                f"{family} {size}: {steps[-1]:,} steps over {steps[0]:,} gain "
                f"{_points(gains[0])} with {ends[0]:,} images, {_points(gains[1])} with {ends[1]:,}"
            )
    claim = "Longer training pays with enough images only."
    return Finding("A", claim, _verdict(found, bool), evidence, "accuracy_against_data")


def more_data_hardly_helps(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """A (CVPR): in the shortest runs, where nothing overfits, the data's amount hardly matters."""
    evidence, found = [], []
    for family, rows in scaling.items():
        steps, amounts = min(values(rows, "steps")), sorted(set(values(rows, "images")))
        for size in values(rows, "size"):
            means = [
                average(pick(rows, size=size, images=images, steps=steps), accuracy)
                for images in (amounts[-2], amounts[-1])
            ]
            gain = _difference(*reversed(means)) if accuracy else None
            if gain is None:
                continue
            limit = max(0.005, *(m.spread for m in means))
            found.append(abs(gain) <= limit)
            evidence.append(
                f"{family} {size}, {steps:,} steps: {_points(gain)} from {amounts[-2]:,} to "
                f"{amounts[-1]:,} images (limit {_points(limit)})"
            )
    claim = "Where a model does not overfit, more images hardly help (less than half a point)."
    return Finding("A", claim, _verdict(found, bool), evidence, "accuracy_against_data")


def size_needs_data(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """A: the largest model is the better by more, the more images there are."""
    evidence, found = [], []
    for family, rows in scaling.items():
        for steps in sorted(set(values(rows, "steps")), reverse=True):
            by_size = {
                size: {
                    images: average(group, accuracy)
                    for (images,), group in grouped(
                        pick(rows, size=size, steps=steps), ("images",)
                    ).items()
                }
                for size in _by_weights(rows)
            }
            small, *_, large = by_size if len(by_size) > 1 else (*by_size, *by_size)
            shared = sorted(set(by_size[small]) & set(by_size[large]))
            if small != large and len(shared) > 1 and accuracy:
                break
        else:
            continue
        ends = shared[0], shared[-1]
        gains = [_difference(by_size[large][n], by_size[small][n]) for n in ends]
        if None in gains:
            continue
        found.append(gains[1] > gains[0] and gains[1] > 0)
        evidence.append(
            f"{family}, {steps:,} steps: {large} over {small} gains {_points(gains[0])} with "
            f"{ends[0]:,} images, {_points(gains[1])} with {ends[1]:,}"
        )
    claim = "Larger models need more images to be better."
    return Finding("A", claim, _verdict(found, bool), evidence, "accuracy_against_data")


def strong_targets_help(rows: list[Row], accuracy: str) -> Finding:
    """B: HOG or a teacher's features against pixels, with the same method and images seen."""
    evidence, found = [], []
    for family in values(rows, "family"):
        base, _, target = family.rpartition(" ")
        if target not in ("hog", "features") or not accuracy:
            continue
        for (size, seen), group in grouped(
            pick(rows, family=family), ("size", "images_seen")
        ).items():
            ours = average(group, accuracy)
            plain = average(pick(rows, family=base, size=size, images_seen=seen), accuracy)
            gain = _difference(ours, plain)
            if gain is None:
                continue
            found.append(gain > max(ours.spread, plain.spread))
            evidence.append(
                f"{target} {_told(ours)}, pixels {_told(plain)} ({size}, {seen:,} images seen)"
            )
    claim = "Strong reconstruction targets transfer better than pixels."
    return Finding("B", claim, _verdict(found, bool), evidence, "compare_images_seen")


def mixing_helps(rows: list[Row], accuracy: str, by: str) -> Finding:
    """C: MixMIM against MAE and SimMIM on pixels, at the same cost (of seconds: within a tenth)."""
    evidence, found = [], []
    mixed = [row for row in pick(rows, family="mixmim") if row.get(accuracy) is not None]
    others = [f for f in values(rows, "family") if f.partition(" ")[0] in ("mae", "simmim")]
    for (steps, _), group in grouped(mixed, ("steps", "model")).items():
        cost, ours = average(group, by), average(group, accuracy)
        for family in others:
            near = [
                (abs(average(g, by).value / cost.value - 1), average(g, accuracy))
                for g in grouped(pick(rows, family=family), ("model", "steps", "images")).values()
                if average(g, by) is not None and average(g, accuracy) is not None
            ]
            off, theirs = min(near, key=lambda pair: pair[0], default=(1.0, None))
            if theirs is None or off > 0.1:
                continue
            found.append(ours.value - theirs.value > max(ours.spread, theirs.spread))
            evidence.append(
                f"MixMIM {_told(ours)}, {family} {_told(theirs)} ({steps:,} steps of MixMIM)"
            )
    called = {"images_seen": "with the same number of images seen", "seconds": "in the same time"}[
        by
    ]
    claim = f"MixMIM transfers better than MAE and SimMIM {called}."
    return Finding("C", claim, _verdict(found, bool), evidence, f"compare_{by}")


# --- parts --------------------------------------------------------------------------------------


def _verdict(found: list, holds: Callable[..., bool]) -> str:
    if not found:
        return UNTESTABLE
    good = sum(bool(holds(value)) for value in found)
    if good == len(found):
        return CONFIRMED
    return REFUTED if good == 0 else f"{REFUTED}: holds in {good} of {len(found)} cases"


def _difference(a: Mean | None, b: Mean | None) -> float | None:
    return None if a is None or b is None else a.value - b.value


def _by_weights(rows: list[Row]) -> list[str]:
    """Sizes from small to large, or as they come where weights are not known."""
    sizes = values(rows, "size")
    if all("weights" in row for row in rows):
        return sorted(sizes, key=lambda size: pick(rows, size=size)[0]["weights"])
    return sizes


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f} points"


def _told(m: Mean) -> str:
    return (
        f"{100 * m.value:.1f} ± {100 * m.spread:.1f} %" if m.count > 1 else f"{100 * m.value:.1f} %"
    )
