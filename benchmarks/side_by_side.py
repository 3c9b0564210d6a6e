"""Runs contenders in turn and compares medians."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender's calls."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the calls."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range of the middle half of the calls, over the median."""
        ordered = sorted(self.seconds)
        quarter = len(ordered) // 4
        return (ordered[-1 - quarter] - ordered[quarter]) / 2 / self.median


def interleave(
    contenders: dict[str, Callable[[], None]], rounds: int, warmup: int = 2, untimed: int = 0
) -> list[Timing]:
    """Calls every contender in each round, so that whatever else the machine does hits all.

    Args:
        contenders: name -> a call that does one step and waits for it.
        rounds: timed rounds.
        warmup: untimed rounds before, for compilation and caches.
        untimed: calls at the start of each turn that do not count: whoever waited finds caches
            cold and the memory it gave back gone, as no training does between its steps.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(warmup + rounds):
        for name, step in contenders.items():
            for _ in range(untimed):
                step()
            start = time.perf_counter()
            step()
            if round_ >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return [Timing(name, tuple(values)) for name, values in seconds.items()]
