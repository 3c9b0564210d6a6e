"""MixMIM's backbone."""

from mimzoo.models.mixmim.mixmim_backbone import MIXMIM_SIZES, MixMIMBackbone

__all__ = ["MIXMIM_SIZES", "MixMIMBackbone"]
