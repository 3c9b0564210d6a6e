"""microsoft/SimMIM and microsoft/Swin-Transformer: models/simmim.py, pretraining.

The encoder's tensors begin with `encoder.`; the decoder is a 1 x 1 convolution and a pixel shuffle.
"""

from dataclasses import replace

from mimzoo.convert import swin, vit
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import SwinNames, ViTNames
from mimzoo.models import SwinBackbone, SwinV2Backbone, ViTBackbone

# The files of the data-scaling paper have an older name of the network of the position bias.
RPE = ((r"\.rpe_mlp\.", ".cpb_mlp."),)

_PIXELS = ("decoder.0.weight", "encoder.mask_token")

_SWIN = Layout(
    name="simmim_swin_pretrain",
    origin="microsoft/SimMIM, Swin",
    licence="MIT",
    backbone=SwinBackbone,
    task="simmim",
    configure=swin.configure,
    rows=swin.rows,
    names=SwinNames(prefix="encoder."),
    keys=(*_PIXELS, "encoder.layers.0.blocks.0.attn.relative_position_bias_table"),
)

LAYOUTS = (
    _SWIN,
    replace(
        _SWIN,
        name="simmim_swinv2_pretrain",
        origin="microsoft/Swin-Transformer, SimMIM on Swin V2",
        backbone=SwinV2Backbone,
        configure=swin.configure_v2,
        keys=(*_PIXELS, "encoder.layers.0.blocks.0.attn.logit_scale"),
        aliases=RPE,
        # configs/simmim/simmim_pretrain__swinv2_base__img192_window12__800ep.yaml; the paper's
        # models of other sizes are presumed to share them.
        defaults={"image_size": 192, "window_size": 12},
        target_window=47,
    ),
    replace(
        _SWIN,
        name="simmim_vit_pretrain",
        origin="microsoft/SimMIM, ViT",
        backbone=ViTBackbone,
        configure=vit.configure,
        rows=vit.rows,
        names=ViTNames(prefix="encoder."),
        keys=(*_PIXELS, "encoder.cls_token", "encoder.blocks.0.attn.q_bias"),
    ),
    replace(
        _SWIN,
        name="simmim_vit_classifier",
        origin="microsoft/SimMIM, ViT fine-tuned",
        backbone=ViTBackbone,
        task="classifier",
        configure=vit.configure,
        rows=vit.rows,
        names=ViTNames(),
        keys=(
            "cls_token",
            "blocks.0.gamma_1",
            "blocks.0.attn.relative_position_bias_table",
            "fc_norm.weight",
            "head.weight",
        ),
    ),
)
