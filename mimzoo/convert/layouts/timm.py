"""timm: its ViT, which has MAE's names, and its Swin, whose mergings open a stage."""

from dataclasses import replace

from mimzoo.convert import swin, vit
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import SwinNames, ViTNames
from mimzoo.models import SwinBackbone, SwinV2Backbone, ViTBackbone

# timm's file of a model on the Hub, config.json: {"pretrained_cfg": {"mean": …}}.
_STORED = {"pretrained_cfg.mean": "mean", "pretrained_cfg.std": "std"}

_VIT = Layout(
    name="timm_vit",
    origin="huggingface/pytorch-image-models, vision_transformer.py",
    # Of its .mae models, the only ones without a head.
    licence="CC-BY-NC-4.0",
    backbone=ViTBackbone,
    task="backbone",
    configure=vit.configure,
    rows=vit.rows,
    names=ViTNames(),
    keys=("cls_token", "pos_embed", "blocks.0.attn.qkv.weight", "norm.weight"),
    without=("mask_token", "head.weight", "fc_norm.weight"),
    stored=_STORED,
)

_SWIN = Layout(
    name="timm_swin",
    origin="huggingface/pytorch-image-models, swin_transformer.py",
    licence="unknown",
    backbone=SwinBackbone,
    task="classifier",
    configure=swin.configure,
    rows=swin.rows,
    names=SwinNames(merging_stage=1, head="head.fc"),
    keys=(
        "layers.1.downsample.reduction.weight",
        "layers.0.blocks.0.attn.relative_position_bias_table",
        "head.fc.weight",
    ),
    without=("layers.0.downsample.reduction.weight",),
    stored=_STORED,
)

LAYOUTS = (
    _VIT,
    replace(
        _VIT,
        name="timm_vit_classifier",
        licence="unknown",
        task="classifier",
        keys=(*_VIT.keys, "head.weight"),
        without=("mask_token", "fc_norm.weight"),
        pooling="token",
    ),
    _SWIN,
    replace(
        _SWIN,
        name="timm_swinv2",
        origin="huggingface/pytorch-image-models, swin_transformer_v2.py",
        backbone=SwinV2Backbone,
        configure=swin.configure_v2,
        keys=(
            "layers.1.downsample.reduction.weight",
            "layers.0.blocks.0.attn.logit_scale",
            "head.fc.weight",
        ),
    ),
)
