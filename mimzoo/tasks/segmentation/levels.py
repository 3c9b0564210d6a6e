"""The maps of a backbone that a segmentation head reads, and the necks between the two."""

import functools
import math
from typing import Any

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.models.backbone import Backbone
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.maps import LevelNorms, build_chain, run, scaling_layers

LEVELS = 4
# Pixels to a step of the finest map, on which every published head works.
FINEST_STRIDE = 4


def taps(backbone: Backbone) -> list[keras.KerasTensor]:
    """The maps (B, rows, cols, channels) that heads read, the finest first.

    Of a backbone with stages the output of each; the last is normalised where the backbone has a
    final norm. Of a ViT those of four blocks, at 1/3, 1/2, 2/3 and the end: 4, 6, 8 and 12 of 12
    (mmsegmentation, configs/mae: `out_indices=[3, 5, 7, 11]`).
    """
    if not isinstance(backbone, ViTBackbone):
        return list(backbone.pyramid_outputs.values())
    blocks = [max(1, backbone.depth * part // 6) - 1 for part in (2, 3, 4)]
    inner = [backbone.intermediate_outputs[block] for block in blocks]
    return [backbone.feature_map(tokens) for tokens in (*inner, backbone.output)]


def make_neck(backbone: Backbone, dtype: Any) -> keras.layers.Layer:
    """The layer that makes a pyramid of `taps`: strides of about 4, 8, 16 and 32 pixels."""
    if isinstance(backbone, ViTBackbone):
        first = round(math.log2(backbone.patch_size / FINEST_STRIDE))
        return FeaturePyramid(first, dtype=dtype, name="neck")
    norms = len(backbone.depths) - bool(backbone.final_norm)
    return LevelNorms(norms, backbone.layer_norm_epsilon, dtype=dtype, name="neck")


@keras.saving.register_keras_serializable(package="mimzoo")
class FeaturePyramid(keras.layers.Layer):
    """Four maps of one size -> a pyramid: mmsegmentation's `Feature2Pyramid`.

    Map i is scaled by 2^(first - i): by transposed convolutions of stride 2 (with batch norm and
    GELU between two of them), or by maximum pooling. For patches of 16 pixels these are x4, x2, x1
    and x0.5.

    Args:
        first: exponent of the first map's scale, 2 at most.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, first: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.first = min(first, 2)
        self.scalings: list[list[keras.layers.Layer]] = []

    def build(self, shapes: list[tuple]) -> None:
        """One chain of layers for each map."""
        shared = {"dtype": self.dtype_policy}
        for number, shape in enumerate(shapes):
            chain = scaling_layers(
                self.first - number,
                [shape[-1]] * 2,
                functools.partial(batch_norm, name=f"norm_{number}", **shared),
                f"up_{number}",
                **shared,
            )
            build_chain(chain, shape)
            self.scalings.append(chain)

    def call(self, levels: list[Tensor], training: bool | None = None) -> list[Tensor]:
        """Maps (B, rows, cols, channels) -> maps of different sizes, the finest first."""
        return [
            run(chain, level, training) for chain, level in zip(self.scalings, levels, strict=True)
        ]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "first": self.first}


def batch_norm(**kwargs: Any) -> keras.layers.BatchNormalization:
    """Batch norm with torch's constants, which all published heads were trained with."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **kwargs)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of maps (B, rows, cols, channels), pixel centres aligned."""
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")
