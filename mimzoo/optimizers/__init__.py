"""Layer-wise learning-rate decay, weight-decay groups and schedules, for any Keras optimizer.

Moving averages of the weights need nothing of ours: pass `use_ema=True` to the optimizer, wrapped
or not.
"""

from mimzoo.models.layer_decay import vit_layer_decay_scales
from mimzoo.optimizers.adamw import AdamW
from mimzoo.optimizers.groups import no_weight_decay
from mimzoo.optimizers.layer_decay import LayerDecay
from mimzoo.optimizers.layer_decay_adamw import LayerDecayAdamW
from mimzoo.optimizers.schedules import WarmupCosine, WarmupLinear, WarmupMultiStep
from mimzoo.run_length import scaled_learning_rate, steps

__all__ = [
    "AdamW",
    "LayerDecay",
    "LayerDecayAdamW",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupMultiStep",
    "no_weight_decay",
    "scaled_learning_rate",
    "steps",
    "vit_layer_decay_scales",
]
