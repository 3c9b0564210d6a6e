"""facebookresearch/mae: models_mae.py (with decoder, or cut off) and models_vit.py (fine-tuned)."""

from mimzoo.convert import vit
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import DecoderNames, ViTNames
from mimzoo.models import ViTBackbone

_SHARED = {
    "origin": "facebookresearch/mae",
    "licence": "CC-BY-NC-4.0",
    "backbone": ViTBackbone,
    "configure": vit.configure,
    "rows": vit.rows,
}
_KEYS = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")

LAYOUTS = (
    Layout(
        name="mae_encoder_only",
        task="backbone",
        names=ViTNames(),
        keys=(*_KEYS, "norm.weight"),
        without=("mask_token", "head.weight", "fc_norm.weight"),
        **_SHARED,
    ),
    Layout(
        name="mae_full",
        task="mae",
        names=ViTNames(decoder=DecoderNames()),
        keys=(*_KEYS, "decoder_embed.weight"),
        **_SHARED,
    ),
    Layout(
        name="mae_vit_classifier_gap",
        task="classifier",
        names=ViTNames(),
        keys=(*_KEYS, "fc_norm.weight", "head.weight"),
        without=("norm.weight", "blocks.0.gamma_1"),
        **_SHARED,
    ),
)
