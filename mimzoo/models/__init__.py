"""Backbones and classifiers. Nothing here knows of masks, losses or files."""

from mimzoo.models.backbone import Backbone
from mimzoo.models.classifiers import (
    MixMIMImageClassifier,
    SwinImageClassifier,
    SwinV2ImageClassifier,
    ViTImageClassifier,
)
from mimzoo.models.image_classifier import ImageClassifier
from mimzoo.models.mixmim import MixMIMBackbone
from mimzoo.models.swin import SwinBackbone, SwinV2Backbone
from mimzoo.models.vit import ViTBackbone

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
