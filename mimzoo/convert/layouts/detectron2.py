"""facebookresearch/detectron2, projects/ViTDet: the backbone of its detectors.

Feature pyramid, proposals and heads belong to Mask R-CNN, which mimzoo lacks: they are ignored and
counted. The table of absolute positions is that of the pretraining. Decomposed relative positions
show the size of the images (1,024 px in all released files) and which blocks attend inside
windows; a file without them does not: there these are the blocks that are not the last of a
quarter (configs/common/models/mask_rcnn_vitdet.py).
"""

import math

from mimzoo.convert import vit
from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import BlockNames, ViTNames
from mimzoo.models import ViTBackbone


def _configure(names: ViTNames, tensors: Tensors, hints: ConversionHints) -> dict:
    """Arguments of a ViTBackbone; positions are resized to its image size.

    Raises:
        ValueError: shapes that fit no ViT, or a setting that cannot be inferred.
    """
    patch = tensors.shape(f"{names.prefix}{names.patch}.weight")[-1]
    side = math.isqrt(tensors.shape(names.prefix + names.positions)[1] - 1) * patch
    config = vit.configure(names, tensors, hints, pretrained_size=(side, side))
    grids = _grids(names, tensors, config["depth"])
    if not grids:
        size = hints.image_size(side)
        windows = {"window_size": hints.get("window_size", default=14)}
    else:
        small, large = min(grids), max(grids)
        size = hints.image_size((large[0] * patch, large[1] * patch))
        windows = {"relative_position_bias": "decomposed"}
        if small != large:
            whole = tuple(number for number, grid in enumerate(grids) if grid == large)
            windows |= {"window_size": small[0], "global_attention_blocks": whole}
    return {**config, "image_shape": (*size, config["image_shape"][-1]), **windows}


def _grids(names: ViTNames, tensors: Tensors, depth: int) -> list[tuple[int, int]]:
    """Rows and columns of tokens among which each block attends; empty without tables of them.

    Raises:
        ValueError: some block has no tables, or they are not those of windows and whole images.
    """
    at = [f"{names.prefix}{names.block.format(number)}." for number in range(depth)]
    tables = names.inside.row_positions, names.inside.column_positions
    if not any(block + table in tensors for block in at for table in tables):
        return []
    grids = [tuple((tensors.shape(block + table)[0] + 1) // 2 for table in tables) for block in at]
    kinds = sorted(set(grids))
    if len(kinds) > 2 or (len(kinds) == 2 and kinds[0][0] != kinds[0][1]):
        found = ", ".join(f"{rows}x{cols}" for rows, cols in kinds)
        raise ValueError(
            f"the tables of relative positions are of {found} tokens: mimzoo's ViT has square "
            "windows of one size, and blocks without windows."
        )
    return grids


LAYOUTS = (
    Layout(
        name="detectron2_vitdet",
        origin="facebookresearch/detectron2, ViTDet",
        licence="unknown",
        backbone=ViTBackbone,
        task="backbone",
        configure=_configure,
        rows=vit.rows,
        names=ViTNames(
            prefix="backbone.net.",
            class_token="",
            inside=BlockNames(row_positions="attn.rel_pos_h", column_positions="attn.rel_pos_w"),
        ),
        keys=(
            "backbone.net.pos_embed",
            "backbone.net.patch_embed.proj.weight",
            "backbone.net.blocks.0.attn.qkv.weight",
        ),
        ignored=(
            r"backbone\.simfp_\d\..*",
            r"(proposal_generator|roi_heads|head)\..*",
            r"pixel_(mean|std)",
        ),
    ),
)
