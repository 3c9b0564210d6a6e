"""Backbones. Nothing here knows of data, losses or files.

Classifiers, segmenters and detectors are in `mimzoo.tasks`, and like KerasHub's also found under
`models`.
"""

import importlib
from typing import Any

from mimzoo.models.backbone import Backbone
from mimzoo.models.mixmim import MixMIMBackbone
from mimzoo.models.swin import SwinBackbone, SwinV2Backbone
from mimzoo.models.vit import ViTBackbone

_TASKS = (
    "ImageClassifier",
    "ImageSegmenter",
    "MixMIMImageClassifier",
    "MixMIMImageSegmenter",
    "MixMIMObjectDetector",
    "ObjectDetector",
    "SwinImageClassifier",
    "SwinImageSegmenter",
    "SwinObjectDetector",
    "SwinV2ImageClassifier",
    "SwinV2ImageSegmenter",
    "SwinV2ObjectDetector",
    "ViTImageClassifier",
    "ViTImageSegmenter",
    "ViTObjectDetector",
)
__all__ = ["Backbone", "MixMIMBackbone", "SwinBackbone", "SwinV2Backbone", "ViTBackbone", *_TASKS]


def __getattr__(name: str) -> Any:
    if name not in _TASKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("mimzoo.tasks"), name)
