"""Backbones and classifiers. Nothing here knows of masks, losses or files."""

from mimzoo.models.backbone import Backbone
from mimzoo.models.image_classifier import ImageClassifier
from mimzoo.models.mixmim import MixMIMBackbone, MixMIMImageClassifier
from mimzoo.models.swin import (
    SwinBackbone,
    SwinImageClassifier,
    SwinV2Backbone,
    SwinV2ImageClassifier,
)
from mimzoo.models.vit import ViTBackbone, ViTImageClassifier

__all__ = [
    "Backbone",
    "ImageClassifier",
    "MixMIMBackbone",
    "MixMIMImageClassifier",
    "SwinBackbone",
    "SwinImageClassifier",
    "SwinV2Backbone",
    "SwinV2ImageClassifier",
    "ViTBackbone",
    "ViTImageClassifier",
]
