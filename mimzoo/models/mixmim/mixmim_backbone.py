"""MixMIM's backbone."""

from collections.abc import Sequence

import keras

from mimzoo.layers.swin_block import MixMIMBlock
from mimzoo.models.hierarchy import HierarchicalBackbone
from mimzoo.models.layer_decay import mixmim_layer_decay_scales
from mimzoo.models.swin.swin_backbone import SWIN_SIZES

# B, L, H: `mixmim_base` and so on in models_mixmim.py; nano: ours, for 32 px images, with one
# window a stage, since nothing is shifted.
MIXMIM_SIZES = {
    "nano": {**SWIN_SIZES["nano"], "window_size": (8, 4)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
    "huge": {"embed_dim": 352, "depths": (2, 2, 18, 2), "num_heads": (11, 22, 44, 88)},
}


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMBackbone(HierarchicalBackbone):
    """MixMIM's transformer: images (B, H, W, C) -> tokens (B, M, D) of the last stage.

    Liu et al., arXiv 2205.13137; models_mixmim.py. Swin blocks whose windows are large and never
    shifted, and fixed sine-cosine positions added to the patches. `encode(tokens, sources)` keeps
    the tokens of two mixed images apart; without `sources` it is an ordinary backbone. Images of
    any size and shape are taken, as by SwinBackbone.

    Args:
        window_size: side of a window in tokens for each stage, or one number for all. Published:
            (14, 14, 14, 7) at 224 px, (16, 16, 24, 12) at 384 px. Preset tables are resized when
            this or the image changes.
        image_shape, patch_size, embed_dim, depths, num_heads, mlp_ratio: see SwinBackbone.
        qkv_bias, drop_path_rate, final_norm, layer_norm_epsilon, remat, dtype: see SwinBackbone.

    Raises:
        ValueError: see SwinBackbone.

    Example:
    ```python
    backbone = mimzoo.models.MixMIMBackbone.from_size("base")
    tokens = backbone(images)  # (B, 49, 1024) of images (B, 224, 224, 3)
    maps = backbone.pyramid_outputs  # P2 ... P5
    ```
    """

    family = "mixmim"
    block_cls = MixMIMBlock
    shifted = False
    fixed_positions = True
    sizes = MIXMIM_SIZES

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        patch_size: int = 4,
        embed_dim: int = 128,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int | Sequence[int] = (14, 14, 14, 7),
        **kwargs,
    ):
        super().__init__(
            image_shape, patch_size, embed_dim, depths, num_heads, window_size, **kwargs
        )

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """MixMIM's groups (util/lr_decay.py): see mixmim_layer_decay_scales."""
        return mixmim_layer_decay_scales(self.depths, layer_decay)
