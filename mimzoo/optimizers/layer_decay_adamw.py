"""AdamW as the papers fine-tune with it."""

from collections.abc import Sequence
from typing import Any

import keras

from mimzoo.models.layer_decay import check_layer_decay
from mimzoo.optimizers.adamw import check_built
from mimzoo.optimizers.groups import check_each_matches, matches_any, multipliers
from mimzoo.optimizers.layer_decay import LayerDecay


def LayerDecayAdamW(
    model: keras.Model,
    learning_rate: Any,
    layer_decay: float = 0.65,
    *,
    weight_decay: float = 0.05,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    no_weight_decay: Sequence[str] = (),
    name: str = "layer_decay_adamw",
    **kwargs: Any,
) -> LayerDecay:
    """AdamW for fine-tuning: the deeper into the backbone, the lower the learning rate.

    ```python
    model.compile(
        mimzoo.optimizers.LayerDecayAdamW(model, learning_rate=1e-3, layer_decay=0.65),
        "sparse_categorical_crossentropy",
        ["accuracy"],
    )
    ```

    Defaults are those of MAE's ViT-B (FINETUNE.md). 1-D weights and biases are not
    decayed. Parts of the model that are not trainable are left out.

    Args:
        model: a built model with a method `layer_decay_scales(layer_decay)` that returns pairs
            (regex over `variable.path`, multiplier): every mimzoo classifier and backbone.
        learning_rate: a float or a schedule: the rate of the last layer.
        layer_decay: in (0, 1]; each layer further from the output trains at this share of the
            rate of the next.
        weight_decay: decoupled, as a share of a variable's own learning rate.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        no_weight_decay: regexes over `variable.path` of more variables that are not decayed.
        name: name of the wrapping optimizer.
        **kwargs: further arguments of `keras.optimizers.AdamW`, such as `global_clipnorm`
            (5.0 in SimMIM), `use_ema`, `ema_momentum` or `gradient_accumulation_steps`.

    Returns:
        A `LayerDecay` around `keras.optimizers.AdamW`.

    Raises:
        ValueError: a model that is not built or has no `layer_decay_scales`, a `layer_decay`
            outside (0, 1], a scale that matches no weight, or a weight that no scale matches.
    """
    check_layer_decay(layer_decay)
    check_built(model)
    if not hasattr(model, "layer_decay_scales"):
        raise ValueError(
            f"{type(model).__name__} has no layer_decay_scales method: use a mimzoo model, or give "
            "the scales to mimzoo.optimizers.LayerDecay yourself."
        )
    scales = model.layer_decay_scales(layer_decay)
    check_each_matches((regex for regex, _ in scales), model.weights, "layer_decay_scales")
    # What is frozen takes no step now; it may be trained later, before the optimizer is built.
    trainable = model.trainable_variables
    frozen = [regex for regex, _ in scales if not any(_found(regex, v) for v in trainable)]
    multipliers(trainable, scales, frozen)
    check_each_matches(no_weight_decay, trainable, "no_weight_decay")
    inner = keras.optimizers.AdamW(learning_rate, weight_decay, beta_1, beta_2, epsilon, **kwargs)
    return LayerDecay(inner, scales, no_weight_decay, False, frozen, name=name)


def _found(regex: str, variable: Any) -> bool:
    return matches_any(variable, [regex])
