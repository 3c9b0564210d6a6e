"""microsoft/Swin-Transformer: classifiers, also those fine-tuned after SimMIM."""

from dataclasses import replace

from mimzoo.convert import swin
from mimzoo.convert.layout import Layout
from mimzoo.convert.layouts.simmim import RPE
from mimzoo.convert.names import SwinNames
from mimzoo.models import SwinBackbone, SwinV2Backbone

_KEYS = ("patch_embed.norm.weight", "layers.0.downsample.reduction.weight", "head.weight")

_SWIN = Layout(
    name="swin_classifier",
    origin="microsoft/Swin-Transformer, models/swin_transformer.py",
    licence="MIT",
    backbone=SwinBackbone,
    task="classifier",
    configure=swin.configure,
    rows=swin.rows,
    names=SwinNames(),
    keys=(*_KEYS, "layers.0.blocks.0.attn.relative_position_bias_table"),
    without=("absolute_pos_embed", "decoder_embed.weight"),
)

LAYOUTS = (
    _SWIN,
    replace(
        _SWIN,
        name="swinv2_classifier",
        origin="microsoft/Swin-Transformer, models/swin_transformer_v2.py",
        backbone=SwinV2Backbone,
        configure=swin.configure_v2,
        keys=(*_KEYS, "layers.0.blocks.0.attn.logit_scale"),
        aliases=RPE,
    ),
)
