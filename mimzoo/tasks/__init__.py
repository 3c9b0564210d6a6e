"""What is trained: `fit` over any input, presets of whole tasks, and the classifiers."""

from mimzoo.tasks.classifiers import (
    MixMIMImageClassifier,
    SwinImageClassifier,
    SwinV2ImageClassifier,
    ViTImageClassifier,
)
from mimzoo.tasks.image_classifier import ImageClassifier

__all__ = [
    "ImageClassifier",
    "MixMIMImageClassifier",
    "SwinImageClassifier",
    "SwinV2ImageClassifier",
    "ViTImageClassifier",
]
