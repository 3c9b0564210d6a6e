"""ViT."""

from mimzoo.models.vit.vit_backbone import VIT_SIZES, ViTBackbone, vit_size

__all__ = ["VIT_SIZES", "ViTBackbone", "vit_size"]
