"""Layers that every backbone shares."""

from mimzoo.layers.attention import MultiHeadAttention
from mimzoo.layers.class_token import ClassToken
from mimzoo.layers.decomposed_positions import DecomposedRelativePositions
from mimzoo.layers.drop_path import DropPath
from mimzoo.layers.dropout import Dropout
from mimzoo.layers.linear import Linear
from mimzoo.layers.mask_token import MaskToken
from mimzoo.layers.mlp import MLP
from mimzoo.layers.patch_merging import PatchMerging
from mimzoo.layers.patches import PatchEmbed, patchify, unpatchify
from mimzoo.layers.position_bias import ContinuousPositionBias, RelativePositionBias
from mimzoo.layers.positions import PositionEmbedding
from mimzoo.layers.swin_block import SwinBlock, SwinV2Block
from mimzoo.layers.transformer_block import TransformerBlock
from mimzoo.layers.window_attention import CosineWindowAttention, WindowAttention
from mimzoo.layers.windows import Windows

__all__ = [
    "MLP",
    "ClassToken",
    "ContinuousPositionBias",
    "CosineWindowAttention",
    "DecomposedRelativePositions",
    "DropPath",
    "Dropout",
    "Linear",
    "MaskToken",
    "MultiHeadAttention",
    "PatchEmbed",
    "PatchMerging",
    "PositionEmbedding",
    "RelativePositionBias",
    "SwinBlock",
    "SwinV2Block",
    "TransformerBlock",
    "WindowAttention",
    "Windows",
    "patchify",
    "unpatchify",
]
