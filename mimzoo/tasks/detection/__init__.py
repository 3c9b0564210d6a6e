"""Object detection: backbones with heads that give boxes with classes, and how well they fit."""

from mimzoo.models.mixmim import MixMIMBackbone
from mimzoo.models.swin import SwinBackbone, SwinV2Backbone
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.detection.average_precision import AveragePrecision, DetectionScores
from mimzoo.tasks.detection.necks import SimpleFeaturePyramid, TopDownPyramid
from mimzoo.tasks.detection.object_detector import ObjectDetector, make_detector

ViTObjectDetector = make_detector(ViTBackbone, __name__)
SwinObjectDetector = make_detector(SwinBackbone, __name__)
SwinV2ObjectDetector = make_detector(SwinV2Backbone, __name__)
MixMIMObjectDetector = make_detector(MixMIMBackbone, __name__)

__all__ = [
    "AveragePrecision",
    "DetectionScores",
    "MixMIMObjectDetector",
    "ObjectDetector",
    "SimpleFeaturePyramid",
    "SwinObjectDetector",
    "SwinV2ObjectDetector",
    "TopDownPyramid",
    "ViTObjectDetector",
    "make_detector",
]
