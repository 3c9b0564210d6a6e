"""Sense-X/MixMIM: models_mixmim.py, pretraining and fine-tuned, and mmpretrain's of both."""

from dataclasses import replace

from mimzoo.convert import swin
from mimzoo.convert.layout import Layout
from mimzoo.convert.layouts.mmpretrain import DECODER, FFN, IGNORED
from mimzoo.convert.names import BlockNames, DecoderNames, SwinNames
from mimzoo.models import MixMIMBackbone

_PRETRAIN = Layout(
    name="mixmim_pretrain",
    origin="Sense-X/MixMIM",
    # The repository has no licence file.
    licence="unknown",
    backbone=MixMIMBackbone,
    task="mixmim",
    configure=swin.configure_mixmim,
    rows=swin.rows,
    names=SwinNames(decoder=DecoderNames()),
    keys=("absolute_pos_embed", "layers.0.blocks.0.attn.qkv.weight", "decoder_embed.weight"),
)
_NAMES = SwinNames(
    prefix="backbone.",
    patch="patch_embed.projection",
    inside=BlockNames(norm1="ln1", norm2="ln2", **FFN),
    unfolded_merging=True,
    head="head.fc",
    decoder=DECODER,
)
_MMPRETRAIN = replace(
    _PRETRAIN,
    name="mmpretrain_mixmim",
    origin="open-mmlab/mmpretrain, MixMIM",
    licence="Apache-2.0",
    names=_NAMES,
    keys=(
        "backbone.absolute_pos_embed",
        "backbone.layers.0.blocks.0.ln1.weight",
        "neck.decoder_embed.weight",
    ),
    ignored=IGNORED,
    # mmpretrain/models/necks/mixmim_neck.py, which takes it from MAE's; its encoder has 1e-5.
    defaults={"decoder_layer_norm_epsilon": 1e-6},
)

LAYOUTS = (
    _PRETRAIN,
    replace(
        _PRETRAIN,
        name="mixmim_classifier",
        task="classifier",
        keys=("absolute_pos_embed", "layers.0.blocks.0.attn.qkv.weight", "head.weight"),
        without=("decoder_embed.weight",),
    ),
    _MMPRETRAIN,
    replace(
        _MMPRETRAIN,
        name="mmpretrain_mixmim_classifier",
        task="classifier",
        keys=(*_MMPRETRAIN.keys[:2], "head.fc.weight"),
        without=("neck.decoder_embed.weight",),
        defaults={},
    ),
)
