"""open-mmlab/mmsegmentation: UPerNet on Swin, and on the ViT of MAE and BEiT.

Its Swin is that of mmpretrain (patch merging in the order of an unfold) with a norm on each stage;
its ViT (mmseg/models/backbones/mae.py, beit.py) has a table of relative positions in each block,
LayerScale and no final norm, and gets its pyramid from `Feature2Pyramid`.
"""

from dataclasses import replace

from mimzoo.convert import swin, vit
from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.layout import Layout
from mimzoo.convert.layouts.mmpretrain import FFN, IGNORED
from mimzoo.convert.layouts.mmpretrain import SWIN as MMPRETRAIN_SWIN
from mimzoo.convert.names import BlockNames, SwinNames, UPerNetNames, ViTNames
from mimzoo.models import SwinBackbone, ViTBackbone
from mimzoo.models.hierarchy import stage_grids


def _configure_swin(names: SwinNames, tensors: Tensors, hints: ConversionHints) -> dict:
    """Arguments of a SwinBackbone; all published configurations crop 512 x 512.

    Raises:
        ValueError: an image in which a stage is no larger than a window: there mmsegmentation pads
            and shifts, and mimzoo, like the official code, takes smaller windows without a shift.
    """
    config = swin.configure(names, tensors, hints)
    size, window = hints.image_size(512), config["window_size"]
    grids = stage_grids(size, config["patch_size"], len(config["depths"]))
    if min(grids[-1]) <= window:
        raise ValueError(
            f"an image of {size[0]}x{size[1]} has {grids[-1][0]}x{grids[-1][1]} tokens in the last "
            f"stage, no more than a window of {window}, where mmsegmentation and mimzoo differ: "
            "give a larger image_size."
        )
    return {**config, "image_shape": (*size, config["image_shape"][-1])}


_VIT = Layout(
    name="mmseg_vit_upernet",
    origin="open-mmlab/mmsegmentation, UPerNet on MAE and BEiT",
    licence="Apache-2.0",
    backbone=ViTBackbone,
    task="segmenter",
    configure=vit.configure,
    rows=vit.rows,
    names=ViTNames(
        prefix="backbone.",
        patch="patch_embed.projection",
        block="layers.{}",
        inside=BlockNames(norm1="ln1", norm2="ln2", **FFN),
        norm="ln1",
        segmenter=UPerNetNames(),
    ),
    keys=(
        "backbone.cls_token",
        "backbone.layers.0.gamma_1",
        "backbone.layers.0.attn.relative_position_bias_table",
        "decode_head.psp_modules.0.1.conv.weight",
        "decode_head.conv_seg.weight",
    ),
    ignored=(*IGNORED, r".*\.num_batches_tracked"),
)

LAYOUTS = (
    _VIT,
    replace(
        _VIT,
        name="mmseg_swin_upernet",
        origin="open-mmlab/mmsegmentation, UPerNet on Swin",
        backbone=SwinBackbone,
        configure=_configure_swin,
        rows=swin.rows,
        names=replace(MMPRETRAIN_SWIN, segmenter=UPerNetNames()),
        keys=(
            "backbone.patch_embed.norm.weight",
            "backbone.norm3.weight",
            "backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table",
            "decode_head.psp_modules.0.1.conv.weight",
            "decode_head.conv_seg.weight",
        ),
    ),
)
