"""microsoft/unilm, beit/modeling_pretrain.py: pretrained encoders with one shared position bias.

Fine-tuned BEiT files have the names of SimMIM's fine-tuned ViT, whose layout takes them.
"""

from mimzoo.convert import vit
from mimzoo.convert.layout import BUFFERS, Layout
from mimzoo.convert.names import ViTNames
from mimzoo.models import ViTBackbone

LAYOUTS = (
    Layout(
        name="beit",
        origin="microsoft/unilm, BEiT",
        licence="MIT",
        backbone=ViTBackbone,
        task="backbone",
        configure=vit.configure,
        rows=vit.rows,
        names=ViTNames(),
        keys=(
            "cls_token",
            "blocks.0.gamma_1",
            "rel_pos_bias.relative_position_bias_table",
            "norm.weight",
        ),
        # Its task, predicting visual tokens of a tokenizer, is none of ours.
        ignored=(*BUFFERS, r"mask_token", r"lm_head\..*"),
    ),
)
