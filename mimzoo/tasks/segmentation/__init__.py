"""Segmentation: backbones with a head that gives the class of each pixel."""

from mimzoo.models.mixmim import MixMIMBackbone
from mimzoo.models.swin import SwinBackbone, SwinV2Backbone
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.segmentation.heads import LinearHead, UPerNetHead
from mimzoo.tasks.segmentation.image_segmenter import ImageSegmenter, make_segmenter

ViTImageSegmenter = make_segmenter(ViTBackbone, __name__)
SwinImageSegmenter = make_segmenter(SwinBackbone, __name__)
SwinV2ImageSegmenter = make_segmenter(SwinV2Backbone, __name__)
MixMIMImageSegmenter = make_segmenter(MixMIMBackbone, __name__)

__all__ = [
    "ImageSegmenter",
    "LinearHead",
    "MixMIMImageSegmenter",
    "SwinImageSegmenter",
    "SwinV2ImageSegmenter",
    "UPerNetHead",
    "ViTImageSegmenter",
    "make_segmenter",
]
