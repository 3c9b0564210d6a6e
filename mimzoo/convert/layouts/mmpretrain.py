"""open-mmlab/mmpretrain: MAE, SimMIM on Swin, and the Swin classifiers after it.

Its patch merging is mmcv's: neighbours in the order of an unfold. The name of a released model may
name the window of its fine-tuning; only the shapes count here.
"""

from dataclasses import replace

from mimzoo.convert import swin, vit
from mimzoo.convert.layout import BUFFERS, Layout
from mimzoo.convert.names import BlockNames, DecoderNames, SwinNames, ViTNames
from mimzoo.models import SwinBackbone, ViTBackbone

FFN = {"fc1": "ffn.layers.0.0", "fc2": "ffn.layers.1"}
_VIT_BLOCK = BlockNames(norm1="ln1", norm2="ln2", **FFN)
# mmpretrain/models/necks/mae_neck.py.
DECODER = DecoderNames(
    embed="neck.decoder_embed",
    positions="neck.decoder_pos_embed",
    mask_token="neck.mask_token",
    block="neck.decoder_blocks.{}",
    inside=_VIT_BLOCK,
    norm="neck.ln1",
    prediction="neck.decoder_pred",
)
IGNORED = (*BUFFERS, r"data_preprocessor\.(mean|std)")
_SWIN_BLOCK = BlockNames(
    qkv="attn.w_msa.qkv",
    projection="attn.w_msa.proj",
    table="attn.w_msa.relative_position_bias_table",
    **FFN,
)

# mmpretrain/models/backbones/swin_transformer.py; mmsegmentation's, too.
SWIN = SwinNames(
    prefix="backbone.",
    patch="patch_embed.projection",
    block="stages.{}.blocks.{}",
    inside=_SWIN_BLOCK,
    merging="stages.{}.downsample",
    unfolded_merging=True,
    # The norm of the fourth and last stage.
    norm="norm3",
    head="head.fc",
    pixels="neck.decoder.0",
)

_MAE = Layout(
    name="mmpretrain_mae",
    origin="open-mmlab/mmpretrain, MAE",
    licence="Apache-2.0",
    backbone=ViTBackbone,
    task="mae",
    configure=vit.configure,
    rows=vit.rows,
    names=ViTNames(
        prefix="backbone.",
        patch="patch_embed.projection",
        block="layers.{}",
        inside=_VIT_BLOCK,
        norm="ln1",
        decoder=DECODER,
    ),
    keys=("backbone.cls_token", "backbone.layers.0.ln1.weight", "neck.decoder_embed.weight"),
    ignored=IGNORED,
)

_SWIN = replace(
    _MAE,
    name="mmpretrain_simmim",
    origin="open-mmlab/mmpretrain, SimMIM",
    backbone=SwinBackbone,
    task="simmim",
    configure=swin.configure,
    rows=swin.rows,
    names=SWIN,
    keys=("backbone.patch_embed.norm.weight", "backbone.norm3.weight", "neck.decoder.0.weight"),
)

LAYOUTS = (
    _MAE,
    _SWIN,
    replace(
        _SWIN,
        name="mmpretrain_swin_classifier",
        origin="open-mmlab/mmpretrain, Swin",
        task="classifier",
        keys=("backbone.patch_embed.norm.weight", "backbone.norm3.weight", "head.fc.weight"),
        without=("neck.decoder.0.weight",),
    ),
)
