"""Parts of data sets that have a name and are the same on every machine."""

import csv
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mimzoo.data.ids import example_id, subset_rank
from mimzoo.data.shards import ShardSource
from mimzoo.data.sources import Source
from mimzoo.data.subsets import select

SAMPLINGS = ("random", "stratified", "filtered")


@dataclass(frozen=True)
class NamedSubset:
    """Images in a named part, and in the whole set where that is one number for everybody."""

    count: int
    whole: int | None = None

    def wanted(self, total: int) -> int:
        """Images to take of a source of `total`: its share, or the count."""
        return round(self.count / self.whole * total) if self.whole else self.count

    def cuts(self, total: int) -> bool:
        """Whether a source of `total` images is the whole set, to be cut to this part."""
        return total == self.whole if self.whole else total > self.count


_IN1K = 1_281_167
# Shares of ImageNet-1K: arXiv 2206.04664. Numbers of COYO-700M: arXiv 2305.15248; of its 747M
# addresses (kakaobrain/coyo-dataset README.md) everybody finds another part still there.
NAMED_SUBSETS = {
    **{f"in1k{p}": NamedSubset(round(_IN1K * p / 100), _IN1K) for p in (10, 20, 50)},
    "coyo500k": NamedSubset(500_000),
    **{f"coyo{m}m": NamedSubset(m * 1_000_000) for m in (1, 5, 10, 100)},
}


def named_subset(
    source: Source,
    name: str,
    sampling: str = "random",
    scores: Mapping[str, float] | None = None,
    min_score: float | None = None,
) -> Source:
    """The part of a data set by that name, the same on every machine.

    Examples are sorted by sha256("mimzoo subset 0:" + id), where the id is the file name without
    folder and ending ("n01440764_10026"), and the first are taken: so smaller parts lie inside of
    larger ones, and a folder, an archive and tfds give the same. On Data Scaling in Masked Image
    Modeling (arXiv 2206.04664) samples ImageNet at random, Delving Deeper into Data Scaling (arXiv
    2305.15248) takes random subsets of COYO and finds that sampling hardly matters; neither
    publishes a list, and how the latter sampled otherwise is not known: "stratified" and "filtered"
    are ours.

    Args:
        source: the whole data set.
        name: of `NAMED_SUBSETS`: "in1k10", "coyo1m" and so on.
        sampling: "random"; "stratified": the same share of each class, which needs labels;
            "filtered": at random among the examples of at least `min_score`.
        scores: id -> score, for "filtered"; see `read_scores`.
        min_score: least score, for "filtered".

    Raises:
        ValueError: an unknown name or sampling; two examples with one id; too few examples.
    """
    if name not in NAMED_SUBSETS:
        raise ValueError(f"unknown subset {name!r}: choose one of {', '.join(NAMED_SUBSETS)}.")
    check_sampling(sampling, scores is not None, min_score)
    wanted = NAMED_SUBSETS[name].wanted(len(source))
    how = "" if sampling == "random" else f", {sampling}"
    title = f"{source.name} ({name}{how})"
    indexed = isinstance(source, ShardSource)
    clash = source.index.same_id if indexed else None
    if not indexed:
        ids = [example_id(source.example_name(index)) for index in range(len(source))]
        if len(set(ids)) < len(ids):
            clash = next(i for i, count in Counter(ids).items() if count > 1)
    if clash:
        raise ValueError(
            f"{source.name} has several examples of one name ({clash}), so {name} is not defined "
            "on it: give each image a file name of its own."
        )
    if indexed and sampling == "random" and len(source) >= wanted:
        return source.lowest_ranks(wanted, title)
    if indexed:
        ranks = np.concatenate(list(source.rank_chunks()))
    else:
        ranks = np.array([subset_rank(i) for i in ids], np.uint64)
    order = np.argsort(ranks, kind="stable")
    if sampling == "filtered":
        order = order[_scores_of(ranks[order], scores) >= min_score]
    if len(order) < wanted:
        which = f" with a score of at least {min_score:g}" if sampling == "filtered" else ""
        raise ValueError(f"{name} is {wanted} images, and {source.name} has {len(order)}{which}.")
    groups = [order]
    share = wanted / len(order)
    if sampling == "stratified":
        labels = source.labels[order]
        groups = [order[labels == label] for label in np.unique(labels)]
    chosen = np.concatenate([group[: round(share * len(group))] for group in groups])
    return select(source, np.sort(chosen), title)


def _scores_of(ranks: np.ndarray, scores: Mapping[str, float]) -> np.ndarray:
    """The score of each example by its rank, -inf where there is none."""
    known = np.array([subset_rank(i) for i in scores], np.uint64)
    order = np.argsort(known)
    known = np.append(known[order], np.uint64(0))
    values = np.append(np.array(list(scores.values()), float)[order], -math.inf)
    place = np.searchsorted(known[:-1], ranks)
    return np.where(known[place] == ranks, values[place], -math.inf)


def check_sampling(sampling: str, scored: bool, min_score: float | None) -> None:
    """Raises ValueError unless the options of a sampling go together."""
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}.")
    filtered = sampling == "filtered"
    if filtered != scored or filtered != (min_score is not None):
        raise ValueError("scores and min_score are for the sampling 'filtered', which needs both.")


def read_scores(path: str | os.PathLike) -> dict[str, float]:
    """Scores of a CSV file with the columns "id" and "score", in any order, among others.

    Raises:
        ValueError: columns are missing, or a score is no number.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"id", "score"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} needs a first line that names the columns id and score.")
        scores = {}
        for row in rows:
            try:
                scores[example_id(row["id"])] = float(row["score"])
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {rows.line_num}: {row['score']!r} is no score."
                ) from None
    return scores
