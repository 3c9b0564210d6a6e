"""Swin V2."""

from collections.abc import Sequence

import keras

from mimzoo.layers.swin_block import SwinV2Block
from mimzoo.layers.windows import Windows
from mimzoo.models.hierarchy import HierarchicalBackbone, stage_grids, window_sizes
from mimzoo.models.swin.swin_backbone import SWIN_SIZES

# T: configs/swinv2 of the official code; S to g: arXiv 2206.04664; nano: ours, for 32 px
# images. Windows and image size are those of SimMIM's pretraining.
_PRETRAINING = {"window_size": 12, "image_shape": (192, 192, 3)}
SWIN_V2_SIZES = {
    "nano": SWIN_SIZES["nano"],
    **{name: {**SWIN_SIZES[name], **_PRETRAINING} for name in ("tiny", "small", "base", "large")},
    "huge": {
        "embed_dim": 352,
        "depths": (2, 2, 18, 2),
        "num_heads": (11, 22, 44, 88),
        **_PRETRAINING,
    },
    "giant": {
        "embed_dim": 448,
        "depths": (2, 2, 18, 2),
        "num_heads": (14, 28, 56, 112),
        **_PRETRAINING,
    },
}


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinV2Backbone(HierarchicalBackbone):
    """Swin transformer V2: images (B, H, W, C) -> tokens (B, M, D) of the last stage.

    Liu et al., arXiv 2111.09883; models/swin_transformer_v2.py: cosine attention, continuous
    position bias, norms after attention and MLP. A new backbone's blocks change nothing, since
    their norms start at zero. Images of any size and shape are taken, as by SwinBackbone.

    Args:
        window_size: side of a window in tokens, one number for all stages or one for each. A stage
            that is smaller takes its own shorter side, without shift.
        pretrained_window_sizes: the window that each stage's bias was pretrained with; 0: the
            stage's own. `from_preset` with another window or image size sets it.
        norm_interval: a LayerNorm after each so many blocks of a stage, as the authors of Swin V2
            describe for H and G; 0: none, as in their public code.
        qkv_bias: "qv", as in the official code, "qkv" or "none".
        image_shape, patch_size, embed_dim, depths, num_heads, mlp_ratio: see SwinBackbone.
        drop_path_rate, final_norm, layer_norm_epsilon, remat, dtype: see SwinBackbone.

    Raises:
        ValueError: see SwinBackbone; `pretrained_window_sizes` without an entry for each stage.

    Example:
    ```python
    backbone = mimzoo.models.SwinV2Backbone.from_size("base")
    tokens = backbone(images)  # (B, 36, 1024) of images (B, 192, 192, 3)
    ```
    """

    family = "swinv2"
    block_cls = SwinV2Block
    norm_first = False
    sizes = SWIN_V2_SIZES

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (192, 192, 3),
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int | Sequence[int] = 12,
        *,
        pretrained_window_sizes: Sequence[int] | None = None,
        norm_interval: int = 0,
        qkv_bias: str = "qv",
        **kwargs,
    ):
        pretrained = tuple(pretrained_window_sizes or (0,) * len(depths))
        if len(pretrained) != len(depths):
            raise ValueError(
                f"pretrained_window_sizes {pretrained} must have one entry for each of the "
                f"{len(depths)} stages."
            )
        self.pretrained_window_sizes = pretrained
        self.norm_interval = norm_interval
        super().__init__(
            image_shape,
            patch_size,
            embed_dim,
            depths,
            num_heads,
            window_size,
            qkv_bias=qkv_bias,
            **kwargs,
        )

    def block_arguments(self, stage: int) -> dict:
        """The window that the position bias of a stage was pretrained with."""
        return {"pretrained_window_size": self.pretrained_window_sizes[stage]}

    @classmethod
    def adapt_config(cls, stored: dict, changes: dict) -> dict:
        """Adds the windows that the biases were trained with, where those change."""
        if "pretrained_window_sizes" in changes:
            return changes
        new = {**stored, **changes}

        def sides(config: dict) -> list[int]:
            grids = stage_grids(config["image_shape"], config["patch_size"], len(config["depths"]))
            sizes = window_sizes(config["window_size"], len(grids))
            return [Windows(*pair).size for pair in zip(grids, sizes, strict=True)]

        before = sides(stored)
        if before == sides(new):
            return changes
        known = stored.get("pretrained_window_sizes") or [0] * len(before)
        sizes = tuple(k or b for k, b in zip(known, before, strict=True))
        return {**changes, "pretrained_window_sizes": sizes}

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "pretrained_window_sizes": self.pretrained_window_sizes,
            "norm_interval": self.norm_interval,
        }
