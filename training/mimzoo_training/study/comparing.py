"""What papers B and C found about targets, sampling and mixing.

Targets and mixing: models compared at the same cost. All rows are of the most images that the
study has; models are compared with the one of the other family that is nearest to them in weights.
Better is what is so by more than the greater std over seeds; with one seed, by anything.
"""

import itertools
import math

from mimzoo_training.study.rows import (
    Mean,
    Row,
    average,
    grouped,
    is_balanced,
    pick,
    values,
)
from mimzoo_training.study.verdict import Finding, difference, percent, points, verdict_of

# What a comparison keeps equal -> how that is said.
COSTS = {"images_seen": "with the same number of images seen", "seconds": "in the same time"}
STRONG = ("hog", "features")
# Costs so much beyond the measured ones are taken for these.
TOLERANCE = 1.1
# Of accuracy, or what seeds differ by.
HARDLY = 0.005


def strong_targets_help(rows: list[Row], accuracy: str, by: str) -> Finding:
    """HOG or a teacher's features against pixels, with the same method."""
    rows, cases = usable(rows, accuracy, by), []
    for family in values(rows, "family"):
        base, _, target = family.rpartition(" ")
        if target in STRONG:
            cases += against(rows, family, base, accuracy, by)
    claim = f"Strong reconstruction targets transfer better than pixels {COSTS[by]}."
    return _finding("B", claim, cases, by)


def mixing_helps(rows: list[Row], accuracy: str, by: str) -> Finding:
    """MixMIM against MAE and SimMIM, each towards its usual pixels."""
    rows, cases = usable(rows, accuracy, by), []
    for family in values(rows, "family"):
        if family.startswith(("mae ", "simmim ")) and family.count(" ") == 1:
            cases += against(rows, "mixmim", family, accuracy, by)
    return _finding("C", f"MixMIM transfers better than MAE and SimMIM {COSTS[by]}.", cases, by)


def sampling_hardly_matters(rows: list[Row], accuracy: str) -> Finding:
    """Each way to draw images against the balanced one: the same model, amount and length."""
    evidence, found = [], []
    for (model, images, steps), group in grouped(rows, ("model", "images", "steps")).items():
        usual = average(filter(is_balanced, group), accuracy)
        if not accuracy or usual is None:
            continue
        for sampling in values((r for r in group if not is_balanced(r)), "sampling"):
            drawn = average(pick(group, sampling=sampling), accuracy)
            gain = difference(drawn, usual)
            if gain is None:
                continue
            limit = max(HARDLY, drawn.spread, usual.spread)
            found.append(abs(gain) <= limit)
            evidence.append(
                f"{model}, {images:,} images, {steps:,} steps: {sampling} {percent(drawn)}, "
                f"balanced {percent(usual)} ({points(gain)}, limit {points(limit)})"
            )
    claim = (
        "How the images were sampled hardly matters (by no more than half a point, or than seeds "
        "differ by)."
    )
    return Finding("B", claim, verdict_of(found), evidence)


def usable(rows: list[Row], accuracy: str, by: str) -> list[Row]:
    """Rows of the most images that have the accuracy and the cost."""
    most = max((row["images"] for row in rows), default=0)
    needed = (accuracy, by, "weights")
    return [r for r in pick(rows, images=most) if all(r.get(n) is not None for n in needed)]


def against(
    rows: list[Row], family: str, other: str, accuracy: str, by: str
) -> list[tuple[bool, str]]:
    """(whether it is better, the numbers) for each model and length of a family."""
    rivals, cases = pick(rows, family=other), []
    for (model, steps), group in grouped(pick(rows, family=family), ("model", "steps")).items():
        if not rivals:
            break
        weights = group[0]["weights"]
        near = min(rivals, key=lambda row: abs(math.log(row["weights"] / weights)))
        cost, ours = average(group, by), average(group, accuracy)
        theirs = at_cost(pick(rivals, model=near["model"]), accuracy, by, cost.value)
        if theirs is not None:
            better = ours.value - theirs.value > max(ours.spread, theirs.spread)
            numbers = f"{model} {percent(ours)}, {near['model']} {percent(theirs)}"
            cases.append((better, f"{numbers} ({_amount(cost.value, by)}, {steps:,} steps)"))
    return cases


def at_cost(rows: list[Row], accuracy: str, by: str, cost: float) -> Mean | None:
    """Accuracy of one model at a cost: between its runs, linear in the logarithm of the cost.

    None where the cost lies beyond that of its shortest or longest run.
    """
    known = sorted(
        (average(group, by).value, average(group, accuracy))
        for group in grouped(rows, ("steps",)).values()
    )
    if not known[0][0] / TOLERANCE <= cost <= known[-1][0] * TOLERANCE:
        return None
    cost = min(max(cost, known[0][0]), known[-1][0])
    for (low, before), (high, after) in itertools.pairwise(known):
        if cost <= high:
            share = math.log(cost / low) / math.log(high / low)
            value = before.value + share * (after.value - before.value)
            return Mean(value, max(before.spread, after.spread), min(before.count, after.count))
    return known[-1][1]


def _amount(cost: float, by: str) -> str:
    return f"{cost:,.0f} {'images' if by == 'images_seen' else 'seconds'}"


def _finding(paper: str, claim: str, cases: list[tuple[bool, str]], by: str) -> Finding:
    verdict = verdict_of([better for better, _ in cases])
    return Finding(paper, claim, verdict, [numbers for _, numbers in cases], f"compare_{by}")
