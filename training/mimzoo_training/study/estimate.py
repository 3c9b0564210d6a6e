"""How long the rest of a study takes, learned from the cells that have ended."""

import math
from collections.abc import Mapping

# A step of k times the FLOP takes k ** POWER times as long, until cells have shown what it is: 1
# where arithmetic is all, 0 where a step costs what starting its kernels costs.
POWER = 0.5


class Estimate:
    """Time left, from how far each cell is.

    A cell counts steps x (FLOP a step) ** power. Small models leave a device idle between kernels,
    so that with power 1, cells that run smallest first would promise ten times the true time.

    Args:
        plan: cell -> "flops" and "steps".
        begun: cell -> share in [0, 1] that was done before the clock started.
    """

    def __init__(self, plan: Mapping[str, Mapping[str, float]], begun: Mapping[str, float]) -> None:
        self.plan, self.begun = plan, dict(begun)
        self.power = POWER
        self._seen: dict[str, float] = {}

    def ended(self, name: str, seconds: float) -> None:
        """Learns from a cell that ran whole, and how long that took."""
        if seconds > 0 and not self.begun.get(name):
            self._seen[name] = seconds
            self.power = self._fit()

    def left(self, shares: Mapping[str, float], seconds: float) -> float | None:
        """Seconds left; None while nothing was done.

        Args:
            shares: cell -> share that is done, of all cells that count.
            seconds: since the clock started.
        """
        done = sum(self._cost(n) * (share - self.begun.get(n, 0)) for n, share in shares.items())
        rest = sum(self._cost(n) * (1 - share) for n, share in shares.items())
        return rest * seconds / done if done > 0 else None

    def done(self, shares: Mapping[str, float]) -> float:
        """The share of all work that is done, of this and earlier times."""
        total = sum(map(self._cost, shares))
        return sum(self._cost(n) * share for n, share in shares.items()) / total if total else 1.0

    def _cost(self, name: str) -> float:
        cell = self.plan[name]
        return cell["steps"] * (cell["flops"] / cell["steps"]) ** self.power

    def _fit(self) -> float:
        """Slope of log(seconds a step) over log(FLOP a step), within [0, 1]."""
        points = []
        for name, seconds in self._seen.items():
            cell = self.plan[name]
            points.append(
                (math.log(cell["flops"] / cell["steps"]), math.log(seconds / cell["steps"]))
            )
        x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
        spread = sum((a - x) ** 2 for a, _ in points)
        if spread < 0.1:  # cells of about the same size say nothing of others
            return POWER
        return min(1.0, max(0.0, sum((a - x) * (b - y) for a, b in points) / spread))
