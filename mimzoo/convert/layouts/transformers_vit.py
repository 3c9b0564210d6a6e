"""huggingface/transformers: ViTMAE with decoder, and the encoder alone."""

from dataclasses import replace

from mimzoo.convert import vit
from mimzoo.convert.layout import BUFFERS, Layout
from mimzoo.convert.names import BlockNames, DecoderNames, ViTNames
from mimzoo.models import ViTBackbone

_BLOCK = BlockNames(
    norm1="layernorm_before",
    norm2="layernorm_after",
    qkv=tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
    projection="attention.output.dense",
    fc1="intermediate.dense",
    fc2="output.dense",
)
_NAMES = ViTNames(
    prefix="vit.",
    patch="embeddings.patch_embeddings.projection",
    class_token="embeddings.cls_token",
    positions="embeddings.position_embeddings",
    block="encoder.layer.{}",
    inside=_BLOCK,
    norm="layernorm",
    decoder=DecoderNames(
        embed="decoder.decoder_embed",
        positions="decoder.decoder_pos_embed",
        mask_token="decoder.mask_token",
        block="decoder.decoder_layers.{}",
        inside=_BLOCK,
        norm="decoder.decoder_norm",
        prediction="decoder.decoder_pred",
    ),
)

_MAE = Layout(
    name="hf_vit_mae",
    origin="huggingface/transformers, ViTMAEForPreTraining",
    # The model cards of facebook/vit-mae-* say Apache-2.0, MAE's own repository CC-BY-NC-4.0.
    licence="unknown",
    backbone=ViTBackbone,
    task="mae",
    configure=vit.configure,
    rows=vit.rows,
    names=_NAMES,
    keys=("vit.embeddings.cls_token", "decoder.mask_token", "decoder.decoder_embed.weight"),
    # transformers 5 saves the decoder's blocks under another name than its earlier versions.
    aliases=((r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers."),),
    defaults={"layer_norm_epsilon": 1e-12, "norm_pix_loss": False},
    stored={
        "image_size": "image_size",
        "num_attention_heads": "num_heads",
        "layer_norm_eps": "layer_norm_epsilon",
        "decoder_num_attention_heads": "decoder_num_heads",
        "mask_ratio": "mask_ratio",
        "norm_pix_loss": "norm_pix_loss",
        "image_mean": "mean",
        "image_std": "std",
    },
)

LAYOUTS = (
    _MAE,
    replace(
        _MAE,
        name="hf_vit",
        origin="huggingface/transformers, ViTMAEModel or ViTModel",
        task="backbone",
        names=replace(_NAMES, prefix=""),
        keys=("embeddings.cls_token", "embeddings.position_embeddings", "layernorm.weight"),
        # A pooler's linear layer is trained for a task of its own.
        ignored=(*BUFFERS, r"pooler\..*"),
    ),
)
