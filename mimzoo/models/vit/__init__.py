"""ViT."""

from mimzoo.models.vit.sizes import VIT_SIZES, vit_size
from mimzoo.models.vit.vit_backbone import ViTBackbone

__all__ = ["VIT_SIZES", "ViTBackbone", "vit_size"]
