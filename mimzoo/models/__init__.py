"""Backbones. Nothing here knows of data, losses or files.

Classifiers, segmenters and detectors are in `mimzoo.tasks`, and like KerasHub's also found under
`models`.
"""

from mimzoo.lazy import on_demand
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
__getattr__, __dir__ = on_demand(__name__, dict.fromkeys(_TASKS, ".tasks"))
