"""Scaling laws: the best validation loss as a power law of data, size or compute, with a floor.

The form is that of Hoffmann et al., arXiv 2203.15556, equation 2, one term at a time.
"""

from typing import Any, NamedTuple

from mimzoo_training.study.rows import Row

# Column -> what it is called; the best loss at each value, or that of the cheapest runs so far.
COLUMNS = {"images": "images", "weights": "weights", "flops": "FLOP of training"}
DRAWS = 500
# Values of x below which three numbers cannot be fitted.
MIN_POINTS = 4
EXPONENTS = tuple(k / 100 for k in range(1, 301))


class Interval(NamedTuple):
    """A fitted number, and the interval that holds 95 % of its bootstrap samples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


class Law(NamedTuple):
    """loss(x) = floor + scale * x ** -exponent.

    Attributes:
        column: of the rows, which is x.
        points: (x, loss) that the law was fitted to, by x.
        floor: what no amount of x gets below.
        scale: loss above the floor at x = 1.
        exponent: 0 or more.
        band: (x, low, high) around the curve, of bootstrap samples.
    """

    column: str
    points: list[tuple[float, float]]
    floor: Interval
    scale: Interval
    exponent: Interval
    band: list[tuple[float, float, float]]

    @property
    def determined(self) -> bool:
        """Whether the samples agree on an exponent at all."""
        return (self.exponent.low, self.exponent.high) != (EXPONENTS[0], EXPONENTS[-1])

    def __str__(self) -> str:
        name = COLUMNS[self.column]
        if not self.determined:
            return f"{name}: {len(self.points)} points determine no exponent"
        return f"exponent {self.exponent} of {name}, floor {self.floor}, {len(self.points)} points"


def fit_laws(rows: list[Row]) -> list[Law]:
    """A law for each column of which the rows have enough different values.

    Args:
        rows: of one family; intervals come from drawing as many, with replacement.
    """
    return [law for column in COLUMNS if (law := fit_law(rows, column)) is not None]


def fit_law(rows: list[Row], column: str) -> Law | None:
    """The law of a column, None for fewer than four points."""
    import numpy as np

    rows = [row for row in rows if row.get(column)]
    x, loss = (np.array([row[name] for row in rows], "float64") for name in (column, "val_loss"))
    points = frontier(x, loss, column)
    if len(points) < MIN_POINTS:
        return None
    best = fit_power(*np.array(points).T)
    at = np.geomspace(points[0][0], points[-1][0], 50)
    random, samples, curves = np.random.default_rng(0), [], []
    while len(samples) < DRAWS:
        drawn = random.integers(len(rows), size=len(rows))
        found = frontier(x[drawn], loss[drawn], column)
        if len(found) >= MIN_POINTS:
            samples.append(fit_power(*np.array(found).T))
            floor, scale, exponent = samples[-1]
            curves.append(floor + scale * at**-exponent)
    ends = np.percentile(samples, [2.5, 97.5], axis=0).T
    band = np.percentile(curves, [2.5, 97.5], axis=0)
    numbers = [Interval(value, *map(float, end)) for value, end in zip(best, ends, strict=True)]
    return Law(column, points, *numbers, list(zip(at.tolist(), *band.tolist(), strict=True)))


def frontier(x: Any, loss: Any, column: str) -> list[tuple[float, float]]:
    """(x, loss) of the best run at each x; of compute only runs that beat all cheaper ones."""
    best: dict[float, float] = {}
    for value, found in zip(x.tolist(), loss.tolist(), strict=True):
        best[value] = min(found, best.get(value, found))
    points, least = [], float("inf")
    for value in sorted(best):
        if column != "flops" or best[value] < least:
            points.append((value, best[value]))
        least = min(least, best[value])
    return points


def fit_power(x: Any, loss: Any) -> tuple[float, float, float]:
    """(floor, scale, exponent) of least squares, floor and scale at least 0.

    For a given exponent floor and scale are a linear regression, so the exponents are tried.
    """
    import numpy as np

    start = float(np.min(x))  # powers of x itself overflow
    exponents = np.array(EXPONENTS)
    powers = (x / start) ** -exponents[:, None]
    centred = powers - powers.mean(axis=1, keepdims=True)
    slopes = np.maximum(centred @ loss / (centred**2).sum(axis=1), 0)
    floors = loss.mean() - slopes * powers.mean(axis=1)
    # Without a floor: the line goes through 0.
    through = (powers @ loss) / (powers**2).sum(axis=1)
    slopes, floors = np.where(floors < 0, through, slopes), np.maximum(floors, 0)
    errors = ((floors[:, None] + slopes[:, None] * powers - loss) ** 2).sum(axis=1)
    k = int(np.argmin(errors))
    return float(floors[k]), float(slopes[k] * start ** exponents[k]), float(exponents[k])
