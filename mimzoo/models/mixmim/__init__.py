"""MixMIM: backbone and classifier."""

from mimzoo.models.mixmim.mixmim_backbone import MIXMIM_SIZES, MixMIMBackbone
from mimzoo.models.mixmim.mixmim_image_classifier import (
    MixMIMImageClassifier,
    MixMIMImageClassifierPreprocessor,
    MixMIMImageConverter,
)

__all__ = [
    "MIXMIM_SIZES",
    "MixMIMBackbone",
    "MixMIMImageClassifier",
    "MixMIMImageClassifierPreprocessor",
    "MixMIMImageConverter",
]
