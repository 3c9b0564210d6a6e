"""AdamW as the papers pretrain with it."""

from collections.abc import Sequence
from typing import Any

import keras

from mimzoo.optimizers.groups import check_each_matches
from mimzoo.optimizers.layer_decay import LayerDecay


def AdamW(
    model: keras.Model,
    learning_rate: Any,
    *,
    weight_decay: float = 0.05,
    beta_1: float = 0.9,
    beta_2: float = 0.95,
    epsilon: float = 1e-8,
    no_weight_decay: Sequence[str] = (),
    name: str = "adamw",
    **kwargs: Any,
) -> LayerDecay:
    """AdamW for pretraining: 1-D weights and biases are not decayed.

    Defaults are those of MAE and MixMIM (main_pretrain.py); SimMIM uses `beta_2=0.999`
    and spares more variables: name them in `no_weight_decay`.

    Args:
        model: the built Keras model to train.
        learning_rate: a float or a schedule.
        weight_decay: decoupled, as a share of the learning rate.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        no_weight_decay: regexes over `variable.path` of more variables that are not decayed.
        name: name of the wrapping optimizer.
        **kwargs: further arguments of `keras.optimizers.AdamW`, such as `global_clipnorm`,
            `use_ema`, `ema_momentum` or `gradient_accumulation_steps`.

    Returns:
        A `LayerDecay` with multiplier 1 throughout, which keeps the weight-decay rule when saved.

    Raises:
        ValueError: a model that is not built, or a regex that matches no variable.
    """
    check_built(model)
    check_each_matches(no_weight_decay, model.trainable_variables, "no_weight_decay")
    inner = keras.optimizers.AdamW(learning_rate, weight_decay, beta_1, beta_2, epsilon, **kwargs)
    return LayerDecay(inner, [(r".*", 1.0)], no_weight_decay, decay_vectors=False, name=name)


def check_built(model: Any) -> None:
    """Raises ValueError unless the model has something to train."""
    if not model.trainable_variables:
        raise ValueError(
            f"{type(model).__name__} has no trainable variables: build it first, for example by "
            "calling it on a batch, and leave something trainable."
        )
