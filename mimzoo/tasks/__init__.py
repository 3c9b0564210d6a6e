"""What is trained: `fit` over any input, presets of whole tasks; the tasks that need labels.

A task is loaded when its name is first used, so that none brings the others.
"""

from mimzoo.lazy import on_demand

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
__getattr__, __dir__ = on_demand(__name__, _HOMES)
