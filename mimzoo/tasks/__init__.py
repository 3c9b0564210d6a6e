"""What is trained: `fit` over any input, presets of whole tasks; the tasks that need labels."""

from mimzoo.tasks.classifiers import (
    MixMIMImageClassifier,
    SwinImageClassifier,
    SwinV2ImageClassifier,
    ViTImageClassifier,
)
from mimzoo.tasks.detection import (
    MixMIMObjectDetector,
    ObjectDetector,
    SwinObjectDetector,
    SwinV2ObjectDetector,
    ViTObjectDetector,
)
from mimzoo.tasks.image_classifier import ImageClassifier
from mimzoo.tasks.segmentation import (
    ImageSegmenter,
    MixMIMImageSegmenter,
    SwinImageSegmenter,
    SwinV2ImageSegmenter,
    ViTImageSegmenter,
)

__all__ = [
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
]
