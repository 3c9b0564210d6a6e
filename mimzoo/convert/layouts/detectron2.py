"""facebookresearch/detectron2, projects/ViTDet: the backbone of its detectors.

Feature pyramid, proposals and heads belong to Mask R-CNN, which mimzoo lacks: they are ignored and
counted. The table of positions is that of the pretraining, and so is the image size; blocks
attend inside windows, but for the last of each quarter (configs/common/models/mask_rcnn_vitdet.py).
"""

from mimzoo.convert import vit
from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import ViTNames
from mimzoo.models import ViTBackbone


def _configure(names: ViTNames, tensors: Tensors, hints: ConversionHints) -> dict:
    """Arguments of a ViTBackbone.

    Raises:
        ValueError: decomposed relative positions, which all released files have.
    """
    table = f"{names.prefix}{names.block}.attn.rel_pos_h".format(0)
    if table in tensors:
        raise ValueError(
            f"the file has ViTDet's decomposed relative positions ({table}), which mimzoo's ViT "
            "lacks: only models trained without them (use_rel_pos=False) can be converted."
        )
    window_size = hints.get("window_size", default=14)
    return {**vit.configure(names, tensors, hints), "window_size": window_size}


LAYOUTS = (
    Layout(
        name="detectron2_vitdet",
        origin="facebookresearch/detectron2, ViTDet",
        licence="unknown",
        backbone=ViTBackbone,
        task="backbone",
        configure=_configure,
        rows=vit.rows,
        names=ViTNames(prefix="backbone.net.", class_token=""),
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
