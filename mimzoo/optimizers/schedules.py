"""Learning-rate schedules.

Steps stay integers until they are divided: float32 holds no odd integer beyond 2**24 (16.8
million), which a long run with small batches passes.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from `start` to `peak`; a subclass says what follows."""

    def __init__(self, peak: float, total_steps: int, warmup_steps: int, start: float) -> None:
        for label, value in (("total_steps", total_steps), ("warmup_steps", warmup_steps)):
            if int(value) != value or not 0 <= value < 2**31:
                raise ValueError(f"{label} must be an integer in [0, 2**31), got {value!r}.")
        if warmup_steps >= total_steps:
            raise ValueError(
                f"warmup_steps ({warmup_steps}) must be less than total_steps ({total_steps})."
            )
        if peak <= 0 or start < 0:
            raise ValueError(f"Rates must be positive, got peak={peak!r}, start={start!r}.")
        self.peak = float(peak)
        self.total_steps = int(total_steps)
        self.warmup_steps = int(warmup_steps)
        self.start = float(start)

    def _after(self, step: Any) -> Any:
        raise NotImplementedError

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "int32")
        if self.warmup_steps == 0:
            return self._after(step)
        share = ops.cast(step, "float32") / float(self.warmup_steps)
        warm = self.start + (self.peak - self.start) * share
        return ops.where(step < self.warmup_steps, warm, self._after(step))

    def get_config(self) -> dict:
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
        }


class _WarmupDecay(_Warmup):
    """After the warm-up from `peak` down to `final`, along `_shape`."""

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int,
        start: float = 0.0,
        final: float = 0.0,
    ) -> None:
        super().__init__(peak, total_steps, warmup_steps, start)
        if not 0 <= final <= peak:
            raise ValueError(f"final must lie between 0 and peak={peak!r}, got {final!r}.")
        self.final = float(final)

    def _shape(self, left: Any) -> Any:
        """The share of the way that is left, 1 to 0 -> the share of `peak - final`."""
        raise NotImplementedError

    def _after(self, step: Any) -> Any:
        span = self.total_steps - self.warmup_steps
        left = ops.cast(ops.clip(self.total_steps - step, 0, span), "float32") / float(span)
        return self.final + (self.peak - self.final) * self._shape(left)

    def get_config(self) -> dict:
        """Config: the arguments."""
        return {**super().get_config(), "final": self.final}


@keras.saving.register_keras_serializable(package="mimzoo")
class WarmupCosine(_WarmupDecay):
    """Linear warm-up, then half a cosine down to `final`, step by step.

    rate(step) = start + (peak - start) * step / warmup_steps                  while warming up,
                 final + (peak - final) * (1 + cos(pi * t)) / 2                 after,
    with t = (step - warmup_steps) / (total_steps - warmup_steps); `final` from `total_steps` on.
    Source: MAE, util/lr_sched.py, with the epoch's fraction as step.

    Args:
        peak: highest rate, at step `warmup_steps`.
        total_steps: length of the run in steps, warm-up included.
        warmup_steps: length of the warm-up in steps; 0 for none.
        start: rate at step 0 of a warm-up.
        final: rate at the end.

    Raises:
        ValueError: lengths or rates that make no schedule.
    """

    def _shape(self, left: Any) -> Any:
        # (1 + cos(pi t)) / 2 = sin(pi (1 - t) / 2) ** 2, which does not cancel near the end.
        return ops.square(ops.sin(left * (math.pi / 2)))


@keras.saving.register_keras_serializable(package="mimzoo")
class WarmupLinear(_WarmupDecay):
    """Linear warm-up, then a line down to `final`: mmsegmentation's polynomial of power 1.

    Args:
        peak: highest rate, at step `warmup_steps`.
        total_steps: length of the run in steps, warm-up included.
        warmup_steps: length of the warm-up in steps; 0 for none.
        start: rate at step 0 of a warm-up.
        final: rate at the end.

    Raises:
        ValueError: lengths or rates that make no schedule.
    """

    def _shape(self, left: Any) -> Any:
        return left


@keras.saving.register_keras_serializable(package="mimzoo")
class WarmupMultiStep(_Warmup):
    """Linear warm-up, then `peak`, multiplied by `factor` at each milestone.

    Source: SimMIM's multistep schedule (lr_scheduler.py), step by step.

    Args:
        peak: rate after the warm-up.
        total_steps: length of the run in steps; milestones must lie within it.
        warmup_steps: length of the warm-up in steps; 0 for none.
        start: rate at step 0 of a warm-up.
        milestones: increasing steps; from each on, the rate is `factor` times what it was.
        factor: what a milestone multiplies with.

    Raises:
        ValueError: lengths or rates that make no schedule.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int,
        start: float,
        milestones: Sequence[int],
        factor: float = 0.1,
    ) -> None:
        super().__init__(peak, total_steps, warmup_steps, start)
        bounds = [warmup_steps, *milestones, total_steps]
        ordered = all(a < b for a, b in itertools.pairwise(bounds))
        if not milestones or not ordered or any(int(m) != m for m in milestones):
            raise ValueError(
                f"milestones must be increasing integers between warmup_steps ({warmup_steps}) "
                f"and total_steps ({total_steps}), got {list(milestones)}."
            )
        if factor <= 0:
            raise ValueError(f"factor must be positive, got {factor!r}.")
        self.milestones = [int(m) for m in milestones]
        self.factor = float(factor)

    def _after(self, step: Any) -> Any:
        rate = ops.convert_to_tensor(self.peak, dtype="float32")
        for count, milestone in enumerate(self.milestones, start=1):
            rate = ops.where(step >= milestone, self.peak * self.factor**count, rate)
        return rate

    def get_config(self) -> dict:
        """Config: the arguments."""
        return {**super().get_config(), "milestones": self.milestones, "factor": self.factor}
