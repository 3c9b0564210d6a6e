"""Swin and Swin V2."""

from mimzoo.models.swin.swin_backbone import SWIN_SIZES, SwinBackbone
from mimzoo.models.swin.swin_v2_backbone import SWIN_V2_SIZES, SwinV2Backbone

__all__ = ["SWIN_SIZES", "SWIN_V2_SIZES", "SwinBackbone", "SwinV2Backbone"]
