"""Swin and Swin V2: backbones and classifiers."""

from mimzoo.models.swin.swin_backbone import SWIN_SIZES, SwinBackbone
from mimzoo.models.swin.swin_image_classifier import (
    SwinImageClassifier,
    SwinImageClassifierPreprocessor,
    SwinImageConverter,
    SwinV2ImageClassifier,
    SwinV2ImageClassifierPreprocessor,
    SwinV2ImageConverter,
)
from mimzoo.models.swin.swin_v2_backbone import SWIN_V2_SIZES, SwinV2Backbone

__all__ = [
    "SWIN_SIZES",
    "SWIN_V2_SIZES",
    "SwinBackbone",
    "SwinImageClassifier",
    "SwinImageClassifierPreprocessor",
    "SwinImageConverter",
    "SwinV2Backbone",
    "SwinV2ImageClassifier",
    "SwinV2ImageClassifierPreprocessor",
    "SwinV2ImageConverter",
]
