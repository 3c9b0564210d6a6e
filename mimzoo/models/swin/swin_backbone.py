"""Swin, the first version."""

import keras

from mimzoo.layers.swin_block import SwinBlock
from mimzoo.models.hierarchy import HierarchicalBackbone

# embed_dim, depths, num_heads. T, S, B, L: models/swin_transformer.py's configs (arXiv 2103.14030
# section 3.3); nano: ours, for 32 px images, with
# few wide stages, which a CPU computes faster than many narrow ones.
SWIN_SIZES = {
    "nano": {
        "embed_dim": 64,
        "depths": (2, 4),
        "num_heads": (2, 4),
        "window_size": 4,
        "image_shape": (32, 32, 3),
    },
    "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinBackbone(HierarchicalBackbone):
    """Swin transformer: images (B, H, W, C) -> tokens (B, M, D) of the last stage.

    Liu et al., arXiv 2103.14030; models/swin_transformer.py. With four stages and patch 4, M is
    H/32 x W/32 and D is 8 embed_dim. Images of any size and shape are taken: patches, windows and
    merging pad with zeros what does not divide, and nothing changes where all divides.

    Args:
        image_shape: (H, W, C) in pixels.
        patch_size: side of a patch in pixels.
        embed_dim: width of a token in the first stage; it doubles with each stage.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        window_size: side of a window in tokens, one number for all stages or one for each. A stage
            that is smaller takes its own shorter side, without shift. Preset tables are resized
            when this or the image changes.
        mlp_ratio: hidden width of a block's MLP over its width.
        qkv_bias: "qkv", "qv" or "none".
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        final_norm: whether the tokens are normalised at the end.
        layer_norm_epsilon: of all norms.
        remat: recompute activations of the blocks in the backward pass, saving memory: see
            ViTBackbone.
        dtype: Keras dtype or policy.

    Raises:
        ValueError: a window larger than the image, heads that do not divide the width, `depths`
            and `num_heads` of different length.

    Example:
    ```python
    backbone = mimzoo.models.SwinBackbone.from_size("base", image_shape=(192, 192, 3))
    tokens = backbone(images)  # (B, 36, 1024)
    maps = backbone.pyramid_outputs  # P2 ... P5, (B, rows, cols, channels) each
    ```
    """

    family = "swin"
    block_cls = SwinBlock
    sizes = SWIN_SIZES
