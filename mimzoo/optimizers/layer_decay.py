"""Layer-wise learning-rate decay around any Keras optimizer.

The wrapped optimizer stays one optimizer: one step counter, one gradient norm, one moving
average, one set of slots. Only its update gets another learning rate for some variables:

* JAX and TensorFlow, and optimizers of your own on torch, update variable by variable through
  `update_step(gradient, variable, learning_rate)`: the rate is scaled there.
* Keras' own optimizers on torch update all variables in one fused call with one rate: that call
  is made once per distinct multiplier, on the variables that share it.
* Decoupled weight decay reads `learning_rate` itself, so it too runs once per multiplier.

So the arithmetic is the optimizer's own at a scaled rate, exact for non-linear ones (Ftrl,
Adafactor) as well, and no copy of the weights is kept. Adam and AdamW step faster on torch
(`mimzoo.backend.fuse_adam`). That needs five methods of Keras that are
not public: `_apply_weight_decay`, `_parallel_update_step`, `_get_current_learning_rate`,
`_get_variable_index` and `_use_weight_decay`. tests/test_optimizers.py compares with NumPy, so it
fails if they move.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from mimzoo.backend import fuse_adam
from mimzoo.optimizers.groups import Scales, check_each_matches, is_vector, matches_any, multipliers


def _of_inner(name: str) -> property:
    """An option of the wrapped optimizer; Keras' constructor of the wrapper sets none."""

    def read(self: Any) -> Any:
        return getattr(vars(self).get("inner_optimizer"), name, None)

    def write(self: Any, value: Any) -> None:
        if "inner_optimizer" in vars(self):
            setattr(self.inner_optimizer, name, value)

    return property(read, write, doc=f"`{name}` of the wrapped optimizer.")


@keras.saving.register_keras_serializable(package="mimzoo")
class LayerDecay(keras.optimizers.Optimizer):
    """Wraps an optimizer so that each variable has its own share of the learning rate.

    ```python
    optimizer = mimzoo.optimizers.LayerDecay(
        keras.optimizers.AdamW(1e-3), scales=[("backbone/", 0.1), (".*", 1.0)]
    )
    ```

    Everything else is set on the wrapped optimizer and means what it means there: schedules,
    clipping (the global norm is over all variables, frozen ones too), `weight_decay` (decoupled,
    hence scaled with the rate), `gradient_accumulation_steps`, and `use_ema`, whose average is
    put in place by `finalize_variable_values` (`fit` calls it at its end). The wrapper takes the
    optimizer over: do not use it on its own afterwards. Under mixed precision it goes inside:
    `LossScaleOptimizer(LayerDecay(...))`, as `compile` does by itself.

    Args:
        optimizer: a `keras.optimizers.Optimizer` that was not built yet.
        scales: pairs (regex, multiplier >= 0). The first regex found in `variable.path` wins.
            0.0 freezes: neither step nor weight decay changes the variable.
        no_weight_decay: regexes of variables that are not decayed, beside those excluded on
            `optimizer` itself. Unlike the latter, they are saved.
        decay_vectors: False leaves variables of at most one axis and biases undecayed (MAE's and
            timm's rule, see `no_weight_decay`).
        frozen: regexes of `scales` that may match no variable: those of parts that are frozen.
        name: name of this optimizer.

    Raises:
        ValueError: a negative multiplier, an optimizer that cannot be wrapped; when the optimizer
            is built, a variable that no regex matches or a regex that matches no variable.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        scales: Scales,
        no_weight_decay: Sequence[str] = (),
        decay_vectors: bool = True,
        frozen: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        _check_wrappable(optimizer)
        for regex, scale in scales:
            if not scale >= 0:
                raise ValueError(
                    f"A multiplier in scales must be at least 0, got {scale!r} for {regex!r}."
                )
        if isinstance(no_weight_decay, str):
            raise ValueError("no_weight_decay must be a list of regexes, not one string.")
        # The factor is kept here for an outer LossScaleOptimizer, which sets it to None.
        super().__init__(
            learning_rate=0.0, loss_scale_factor=optimizer.loss_scale_factor, name=name
        )
        self.inner_optimizer = optimizer
        self.scales = tuple((regex, float(scale)) for regex, scale in scales)
        self.no_weight_decay = tuple(no_weight_decay)
        self.decay_vectors = decay_vectors
        self.frozen = tuple(frozen)
        self._rate_multiplier = 1.0
        self._grouped: dict[tuple, dict[float, list[int]]] = {}
        if isinstance(optimizer, keras.optimizers.Adam):
            fuse_adam(optimizer)
        self._take_over(optimizer)

    weight_decay = _of_inner("weight_decay")
    clipnorm = _of_inner("clipnorm")
    clipvalue = _of_inner("clipvalue")
    global_clipnorm = _of_inner("global_clipnorm")

    # === The scaled update ===

    def _take_over(self, inner: keras.optimizers.Optimizer) -> None:
        self._inner_rate = inner._get_current_learning_rate
        self._inner_decay = inner._apply_weight_decay
        inner._get_current_learning_rate = self._scaled_rate
        inner._apply_weight_decay = self._scaled_decay
        if hasattr(inner, "_parallel_update_step"):
            self._inner_parallel_step = inner._parallel_update_step
            inner._parallel_update_step = self._scaled_parallel_step
        else:
            self._inner_step = inner.update_step
            inner.update_step = self._scaled_step
        # Keras saves nested optimizers by themselves; one copy of the slots is enough.
        inner.save_own_variables = _save_nothing
        inner.load_own_variables = _save_nothing

    def _scaled_rate(self) -> Any:
        rate = self._inner_rate()
        return rate if self._rate_multiplier == 1.0 else ops.multiply(rate, self._rate_multiplier)

    @contextmanager
    def _rate_of(self, multiplier: float) -> Iterator[None]:
        self._rate_multiplier = multiplier
        try:
            yield
        finally:
            self._rate_multiplier = 1.0

    def _multiplier(self, variable: Any) -> float:
        return self._multipliers[self.inner_optimizer._get_variable_index(variable)]

    def _scaled_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        multiplier = self._multiplier(variable)
        if multiplier == 1.0:
            self._inner_step(gradient, variable, learning_rate)
        elif multiplier > 0.0:
            self._inner_step(gradient, variable, ops.multiply(learning_rate, multiplier))

    def _scaled_parallel_step(self, grads: list, variables: list, learning_rate: Any) -> None:
        members = self._by_multiplier(variables)
        # State that all variables share (Nadam's momentum product) may advance once only.
        shared = [v for v in vars(self.inner_optimizer).values() if isinstance(v, keras.Variable)]
        before = [ops.copy(v.value) for v in shared] if len(members) > 1 else []
        for position, (multiplier, chosen) in enumerate(members.items()):
            if position > 0:
                for variable, value in zip(shared, before, strict=True):
                    variable.assign(value)
            rate = learning_rate if multiplier == 1.0 else ops.multiply(learning_rate, multiplier)
            self._inner_parallel_step(
                [grads[i] for i in chosen], [variables[i] for i in chosen], rate
            )

    def _scaled_decay(self, variables: list) -> None:
        for multiplier, chosen in self._by_multiplier(variables, decayed=True).items():
            with self._rate_of(multiplier):
                self._inner_decay([variables[i] for i in chosen])

    def _by_multiplier(self, variables: list, decayed: bool = False) -> dict[float, list[int]]:
        """Multipliers above 0, and the places in `variables` of those that have them."""
        key = (decayed, *map(id, variables))
        if key not in self._grouped:
            # The next step has the same variables.
            self._grouped = {k: v for k, v in self._grouped.items() if k[0] != decayed}
            self._grouped[key] = result = {}
            for place, variable in enumerate(variables):
                number = self.inner_optimizer._get_variable_index(variable)
                used = self.inner_optimizer._use_weight_decay(variable) and self._decayed[number]
                if self._multipliers[number] > 0.0 and (used or not decayed):
                    result.setdefault(self._multipliers[number], []).append(place)
        return self._grouped[key]

    # === The rest of an optimizer ===

    def build(self, variables: list) -> None:
        """Create the slots and give each variable its multiplier.

        Raises:
            ValueError: a variable that no regex matches, or a regex that matches no variable.
        """
        self._grouped.clear()
        self._multipliers = tuple(multipliers(variables, self.scales, self.frozen))
        check_each_matches(self.no_weight_decay, variables, "no_weight_decay")
        self._decayed = tuple(
            (self.decay_vectors or not is_vector(v)) and not matches_any(v, self.no_weight_decay)
            for v in variables
        )
        self.inner_optimizer.build(variables)
        super().build(variables)

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        """Update the variables, as `keras.optimizers.Optimizer.apply`."""
        if not self.built:
            if trainable_variables is None:
                raise ValueError(
                    "The optimizer is not built: pass trainable_variables, or call "
                    "build(trainable_variables) first."
                )
            self.build(list(trainable_variables))
        self.inner_optimizer.loss_scale_factor = self.loss_scale_factor
        self.inner_optimizer.apply(grads, trainable_variables)

    @property
    def variables(self) -> list:
        """The wrapped optimizer's variables: the wrapper has none of its own."""
        return self.inner_optimizer.variables

    @property
    def iterations(self) -> Any:
        """Number of steps taken."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The rate of a variable with multiplier 1; it can be set as on the wrapped optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    def exclude_from_weight_decay(
        self, var_list: list | None = None, var_names: list | None = None
    ) -> None:
        """As on the wrapped optimizer. Not saved: use `no_weight_decay` for what has to be."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)
        self._grouped.clear()

    def set_weights(self, weights: list) -> None:
        """Set the values of `variables`."""
        self.inner_optimizer.set_weights(weights)

    def finalize_variable_values(self, var_list: list) -> None:
        """Put the moving average in place of the weights if the optimizer has `use_ema=True`."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict:
        """Config: the wrapped optimizer, the scales and the weight-decay rules."""
        return {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "scales": [list(pair) for pair in self.scales],
            "no_weight_decay": list(self.no_weight_decay),
            "decay_vectors": self.decay_vectors,
            "frozen": list(self.frozen),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "LayerDecay":
        """The optimizer that `get_config` describes."""
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("optimizer"), custom_objects=custom_objects
        )
        return cls(inner, **config)


def _save_nothing(store: Any) -> None:
    """The wrapper saves and loads all variables."""


def _check_wrappable(optimizer: Any) -> None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"LayerDecay wraps a keras.optimizers.Optimizer, got {type(optimizer).__name__}."
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "LayerDecay goes inside loss scaling: write LossScaleOptimizer(LayerDecay(...))."
        )
    if isinstance(optimizer, LayerDecay) or "_apply_weight_decay" in vars(optimizer):
        raise ValueError("The optimizer is wrapped by a LayerDecay already: pass a new one.")
    if optimizer.built:
        raise ValueError("The optimizer is built already: wrap it before its first step.")
