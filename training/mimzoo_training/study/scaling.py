"""What paper A found about size, data and length, asked of a study's rows.

Each rule takes family -> rows, and the name of the accuracy that counts ("" for none).
"""

from mimzoo_training.study.rows import (
    Mean,
    Row,
    average,
    correlation,
    grouped,
    longest_and_best,
    overfitted,
    pick,
    values,
)
from mimzoo_training.study.verdict import Finding, difference, points, verdict_of

# Pearson's r from which validation loss is said to predict how well a model transfers.
PREDICTS = -0.5


def loss_predicts(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """Correlation of validation loss and accuracy, by family and size."""
    evidence, found = [], []
    for family, rows in scaling.items():
        r = correlation(rows, "val_loss", accuracy) if accuracy else None
        if r is None:
            continue
        found.append(r.value)
        each = {
            size: correlation(pick(rows, size=size), "val_loss", accuracy)
            for size in values(rows, "size")
        }
        by_size = ", ".join(f"{size} {r}" for size, r in each.items() if r is not None)
        evidence.append(
            f"{family}: r = {r} over {len(rows)} runs, with the interval of 95 % of bootstrap "
            f"samples (by size: {by_size})"
        )
    claim = "Validation loss in pretraining predicts how well a model fine-tunes."
    verdict = verdict_of(found, lambda r: r <= PREDICTS)
    return Finding("A", claim, verdict, evidence, "accuracy_against_loss")


def small_data_overfits(scaling: dict[str, list[Row]]) -> Finding:
    """Longer runs on the smallest part get worse, on the whole data they do not."""
    evidence, found = [], []
    for family, rows in scaling.items():
        worse = overfitted(rows)
        for size in values(rows, "size"):
            by_images = grouped(pick(rows, size=size), ("images",))
            runs = {images: longest_and_best(group) for (images,), group in by_images.items()}
            amounts = sorted(images for images, pair in runs.items() if pair is not None)
            if len(amounts) < 2:
                continue
            ends = amounts[0], amounts[-1]
            least, most = ((family, size, images) in worse for images in ends)
            found.append(least and not most)
            each = "; ".join(f"{images:,} images: {_change(*runs[images])}" for images in ends)
            evidence.append(f"{family} {size}: {each}")
    claim = "With few images long training overfits: validation loss rises; with many it does not."
    return Finding("A", claim, verdict_of(found), evidence, "loss_against_length")


def _change(longest: tuple[int, Mean], best: tuple[int, Mean]) -> str:
    """How the loss of the longest run differs from the best shorter one's."""
    change = longest[1].value - best[1].value
    return (
        f"loss {longest[1]} after {longest[0]:,} steps, {best[1]} after {best[0]:,} ({change:+.4f})"
    )


def large_models_overfit_more(scaling: dict[str, list[Row]]) -> Finding:
    """What too few images cost in validation loss, in the longest run that all sizes have."""
    evidence, found = [], []
    for family, rows in scaling.items():
        # The amount and length that most sizes have; of these the fewest images, the longest run.
        costs: dict[str, Mean] = {}
        for (images, steps), _ in sorted(
            grouped(rows, ("images", "steps")).items(), key=lambda item: (item[0][0], -item[0][1])
        ):
            found_here = _excess(rows, images, steps)
            if len(found_here) > len(costs):
                costs, ends = found_here, (images, steps)
        if len(costs) < 2:
            continue
        rises = list(costs.values())
        spread = max(rise.spread for rise in rises)
        found.append(rises[-1].value - rises[0].value > spread)
        by_size = ", ".join(f"{size} {rise.value:.4f}" for size, rise in costs.items())
        seeds = f" (greatest std over seeds {spread:.4f})" if spread else ""
        evidence.append(
            f"{family}, {ends[1]:,} steps: loss with {ends[0]:,} images above that with the best "
            f"amount: {by_size}{seeds}"
        )
    claim = "Larger models overfit few images more."
    return Finding("A", claim, verdict_of(found), evidence, "loss_against_length")


def _excess(rows: list[Row], images: int, steps: int) -> dict[str, Mean]:
    """Size -> loss with so many images above the best loss with any amount, for as many steps.

    Its spread is the greater of both.
    """
    costs = {}
    for size in _by_weights(rows):
        group = pick(rows, size=size, steps=steps)
        few = average(pick(group, images=images), "val_loss")
        means = [average(g, "val_loss") for g in grouped(group, ("images",)).values()]
        if few is not None and len(means) > 1:
            best = min(means, key=lambda m: m.value)
            spread = max(few.spread, best.spread)
            costs[size] = Mean(few.value - best.value, spread, few.count)
    return costs


def length_needs_data(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """What the longest run gains over the shortest, with all images and with the fewest."""
    evidence, found = [], []
    for family, rows in scaling.items():
        steps, amounts = sorted(set(values(rows, "steps"))), sorted(set(values(rows, "images")))
        if len(steps) < 2 or not accuracy:
            continue
        ends = amounts[0], amounts[-1]
        for size in values(rows, "size"):
            pairs = [
                [
                    average(pick(rows, size=size, images=images, steps=count), accuracy)
                    for count in (steps[-1], steps[0])
                ]
                for images in ends
            ]
            gains = [difference(*pair) for pair in pairs]
            if None in gains:
                continue
            found.append(gains[1] - gains[0] > _spread(pairs))
            evidence.append(
                f"{family} {size}: {steps[-1]:,} steps over {steps[0]:,} gain "
                f"{points(gains[0])} with {ends[0]:,} images, {points(gains[1])} with {ends[1]:,}"
            )
    claim = "Longer training pays with enough images only."
    return Finding("A", claim, verdict_of(found), evidence, "accuracy_against_data")


def more_data_hardly_helps(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """In the shortest runs, where nothing overfits, the data's amount hardly matters."""
    evidence, found = [], []
    for family, rows in scaling.items():
        steps, amounts = min(values(rows, "steps")), sorted(set(values(rows, "images")))
        for size in values(rows, "size"):
            means = [
                average(pick(rows, size=size, images=images, steps=steps), accuracy)
                for images in (amounts[-2], amounts[-1])
            ]
            gain = difference(*reversed(means)) if accuracy else None
            if gain is None:
                continue
            limit = max(0.005, *(m.spread for m in means))
            found.append(abs(gain) <= limit)
            evidence.append(
                f"{family} {size}, {steps:,} steps: {points(gain)} from {amounts[-2]:,} to "
                f"{amounts[-1]:,} images (limit {points(limit)})"
            )
    claim = "Where a model does not overfit, more images hardly help (less than half a point)."
    return Finding("A", claim, verdict_of(found), evidence, "accuracy_against_data")


def size_needs_data(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """The largest model is the better by more, the more images there are."""
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
        pairs = [[by_size[large][n], by_size[small][n]] for n in ends]
        gains = [difference(*pair) for pair in pairs]
        if None in gains:
            continue
        found.append(gains[1] - gains[0] > _spread(pairs) and gains[1] > 0)
        evidence.append(
            f"{family}, {steps:,} steps: {large} over {small} gains {points(gains[0])} with "
            f"{ends[0]:,} images, {points(gains[1])} with {ends[1]:,}"
        )
    claim = "Larger models need more images to be better."
    return Finding("A", claim, verdict_of(found), evidence, "accuracy_against_data")


def large_models_are_better(scaling: dict[str, list[Row]], accuracy: str) -> Finding:
    """The largest model against the smallest, at equal images seen of the same data."""
    evidence, found = [], []
    for family, rows in scaling.items():
        small, *_, large = _by_weights(rows) * 2
        for seen in sorted(set(values(rows, "images_seen"))) if small != large else []:
            group = pick(rows, images_seen=seen)
            shared = {row["images"] for row in pick(group, size=small)}
            shared &= {row["images"] for row in pick(group, size=large)}
            if not shared or not accuracy:
                continue
            images = max(shared)
            pair = [average(pick(group, size=s, images=images), accuracy) for s in (large, small)]
            gain = difference(*pair)
            if gain is None:
                continue
            spread = _spread([pair])
            found.append(gain > spread)
            seeds = f" (greatest std over seeds {100 * spread:.1f})" if spread else ""
            evidence.append(
                f"{family}, {seen:,} images seen of {images:,}: {large} over {small} gains "
                f"{points(gain)}{seeds}"
            )
    claim = "Larger models are more sample-efficient: better at equal images seen."
    return Finding("A", claim, verdict_of(found), evidence, "accuracy_against_data")


def _spread(pairs: list[list[Mean]]) -> float:
    """The greatest std over seeds: by less, means do not differ."""
    return max(m.spread for pair in pairs for m in pair)


def _by_weights(rows: list[Row]) -> list[str]:
    """Sizes from small to large, or as they come where weights are not known."""
    sizes = values(rows, "size")
    if all("weights" in row for row in rows):
        return sorted(sizes, key=lambda size: pick(rows, size=size)[0]["weights"])
    return sizes
