"""What is trained: `fit` over any input, presets of whole tasks, classifiers and segmenters."""

from mimzoo.tasks.classifiers import (
    MixMIMImageClassifier,
    SwinImageClassifier,
    SwinV2ImageClassifier,
    ViTImageClassifier,
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
    "SwinImageClassifier",
    "SwinImageSegmenter",
    "SwinV2ImageClassifier",
    "SwinV2ImageSegmenter",
    "ViTImageClassifier",
    "ViTImageSegmenter",
]
