"""ViT: backbone and classifier."""

from mimzoo.models.vit.vit_backbone import VIT_SIZES, ViTBackbone, vit_size
from mimzoo.models.vit.vit_image_classifier import (
    ViTImageClassifier,
    ViTImageClassifierPreprocessor,
    ViTImageConverter,
)

__all__ = [
    "VIT_SIZES",
    "ViTBackbone",
    "ViTImageClassifier",
    "ViTImageClassifierPreprocessor",
    "ViTImageConverter",
    "vit_size",
]
