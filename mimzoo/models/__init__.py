"""Backbones, classifiers and segmenters. Nothing here knows of masks, losses or files."""

from mimzoo.models.backbone import Backbone
from mimzoo.models.classifiers import (
    MixMIMImageClassifier,
    SwinImageClassifier,
    SwinV2ImageClassifier,
    ViTImageClassifier,
)
from mimzoo.models.image_classifier import ImageClassifier
from mimzoo.models.mixmim import MixMIMBackbone
from mimzoo.models.segmentation import (
    ImageSegmenter,
    MixMIMImageSegmenter,
    SwinImageSegmenter,
    SwinV2ImageSegmenter,
    ViTImageSegmenter,
)
from mimzoo.models.swin import SwinBackbone, SwinV2Backbone
from mimzoo.models.vit import ViTBackbone

__all__ = [
    "Backbone",
    "ImageClassifier",
    "ImageSegmenter",
    "MixMIMBackbone",
    "MixMIMImageClassifier",
    "MixMIMImageSegmenter",
    "SwinBackbone",
    "SwinImageClassifier",
    "SwinImageSegmenter",
    "SwinV2Backbone",
    "SwinV2ImageClassifier",
    "SwinV2ImageSegmenter",
    "ViTBackbone",
    "ViTImageClassifier",
    "ViTImageSegmenter",
]
