"""Layers that every backbone shares."""

from mimzoo.layers.attention import MultiHeadAttention
from mimzoo.layers.class_token import ClassToken
from mimzoo.layers.drop_path import DropPath
from mimzoo.layers.linear import Linear
from mimzoo.layers.mlp import MLP
from mimzoo.layers.patches import PatchEmbed, patchify, unpatchify
from mimzoo.layers.positions import PositionEmbedding, RelativePositionBias
from mimzoo.layers.transformer_block import TransformerBlock

__all__ = [
    "MLP",
    "ClassToken",
    "DropPath",
    "Linear",
    "MultiHeadAttention",
    "PatchEmbed",
    "PositionEmbedding",
    "RelativePositionBias",
    "TransformerBlock",
    "patchify",
    "unpatchify",
]
