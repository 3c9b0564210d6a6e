"""A sentence of a paper, a verdict over it and the format of numbers."""

from collections.abc import Callable
from dataclasses import dataclass

from mimzoo_training.study.rows import Mean

PAPERS = {
    "A": "Xie et al., On Data Scaling in Masked Image Modeling (arXiv 2206.04664)",
    "B": "Lu et al., Delving Deeper into Data Scaling in Masked Image Modeling (arXiv 2305.15248)",
    "C": "Liu et al., MixMIM (arXiv 2205.13137)",
}
CONFIRMED, REFUTED, UNTESTABLE = "confirmed", "not confirmed", "not testable here"


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


def verdict_of(found: list, holds: Callable[..., bool] = bool) -> str:
    """The verdict over cases, of which each has to hold."""
    if not found:
        return UNTESTABLE
    good = sum(bool(holds(value)) for value in found)
    if good == len(found):
        return CONFIRMED
    return REFUTED if good == 0 else f"{REFUTED}: holds in {good} of {len(found)} cases"


def difference(a: Mean | None, b: Mean | None) -> float | None:
    """a - b, where there are both."""
    return None if a is None or b is None else a.value - b.value


def points(gain: float) -> str:
    """A difference of accuracies."""
    return f"{100 * gain:+.1f} points"


def percent(m: Mean) -> str:
    """An accuracy, with its std over seeds."""
    spread = f" ± {100 * m.spread:.1f}" if m.count > 1 else ""
    return f"{100 * m.value:.1f}{spread} %"
