"""Teachers: models that a step reads and that no gradient reaches."""

from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.backend import no_gradient


class Teacher(keras.layers.Layer):
    """Holds the variables of a frozen teacher: tracked, neither trained nor saved.

    Args:
        variables: of the teacher.
        saved: whether `.keras` files hold them. Presets never do.
    """

    saved = False

    def __init__(self, variables: Any, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.held = list(variables)
        self.built = True

    def follow(self, student: keras.Model) -> None:
        """Called first in every training step; a frozen teacher stays as it is."""

    def save_own_variables(self, store: dict) -> None:
        """Saves nothing: whoever made the teacher finds it again."""

    def load_own_variables(self, store: dict) -> None:
        """Loads nothing."""


@keras.saving.register_keras_serializable(package="mimzoo")
class EMA:
    """How a teacher follows its student: teacher <- m teacher + (1 - m) student, once a step.

    The momentum m rises linearly from `momentum` to `end` over `steps` updates (data2vec,
    modules/ema_module.py and models/modalities/base.py, `get_annealed_rate`). The update stands at
    the beginning of the forward pass of each training step, so it takes the weights that the step
    before has made, as batch normalisation updates its statistics: no training loop of its own, on
    every backend and in compiled steps.

    Args:
        momentum: m at the first update, in [0, 1).
        end: m from `steps` updates on, in [momentum, 1].
        steps: updates until then; 0: m is `end` always.

    Raises:
        ValueError: momenta out of order, or negative steps.
    """

    def __init__(self, momentum: float = 0.9998, end: float = 0.99999, steps: int = 100_000):
        if not 0 <= momentum <= end <= 1:
            raise ValueError(f"momentum and end must rise within [0, 1], got {momentum}, {end}.")
        if steps < 0:
            raise ValueError(f"steps must be at least 0, got {steps}.")
        self.momentum, self.end, self.steps = float(momentum), float(end), int(steps)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"momentum": self.momentum, "end": self.end, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict) -> "EMA":
        """The inverse of `get_config`."""
        return cls(**config)


class FollowingTeacher(Teacher):
    """A copy of the student that follows it.

    Checkpoints and `.keras` files hold it. A preset does not: a task that is loaded from one begins
    with a copy of the student.

    Args:
        model: a copy of the student, not trainable.
        ema: how it follows.
    """

    saved = True

    def __init__(self, model: keras.Model, ema: EMA, **kwargs):
        super().__init__(model.weights, **kwargs)
        self.ema = ema
        # Replicas have the same student, so each may take its own update.
        self.updates = self.add_weight(
            name="updates",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def momentum(self, updates: Any) -> Any:
        """m of this update, counted from 1, as float32."""
        ema = self.ema
        if not ema.steps:
            return ops.convert_to_tensor(ema.end, "float32")
        done = ops.minimum(ops.cast(updates, "float32") / ema.steps, 1.0)
        return ema.momentum + (ema.end - ema.momentum) * done

    def follow(self, student: keras.Model) -> None:
        """One update. The first copies the student, which may have been given weights since."""
        with no_gradient():
            m = self.momentum(self.updates)
            m = ops.where(self.updates > 0, m, 0.0)
            for own, new in zip(self.held, student.weights, strict=True):
                new = ops.stop_gradient(ops.cast(ops.convert_to_tensor(new), own.dtype))
                own.assign(new + (own - new) * ops.cast(m, own.dtype))
            self.updates.assign(self.updates + 1)

    def save_own_variables(self, store: dict) -> None:
        """Saves teacher and count, unless `saved` is False."""
        if self.saved:
            for number, variable in enumerate([*self.held, self.updates]):
                store[str(number)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: dict) -> None:
        """Loads them where the file holds them, which a preset does not."""
        for number, variable in enumerate([*self.held, self.updates]):
            if str(number) in store.keys():  # noqa: SIM118 (an h5 group)
                variable.assign(np.array(store[str(number)]))
