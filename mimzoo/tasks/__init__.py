"""What is trained: `fit` over any input, presets of whole tasks; the tasks that need labels.

A task is loaded when its name is first used, so that none brings the others.
"""

import importlib
from typing import Any

_HOMES = {
    "ImageClassifier": "image_classifier",
    "ImageSegmenter": "segmentation",
    "MixMIMImageClassifier": "classifiers",
    "MixMIMImageSegmenter": "segmentation",
    "MixMIMObjectDetector": "detection",
    "ObjectDetector": "detection",
    "SwinImageClassifier": "classifiers",
    "SwinImageSegmenter": "segmentation",
    "SwinObjectDetector": "detection",
    "SwinV2ImageClassifier": "classifiers",
    "SwinV2ImageSegmenter": "segmentation",
    "SwinV2ObjectDetector": "detection",
    "ViTImageClassifier": "classifiers",
    "ViTImageSegmenter": "segmentation",
    "ViTObjectDetector": "detection",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
