"""huggingface/transformers: Swin and Swinv2, alone, with a classifier, with SimMIM's decoder."""

from dataclasses import replace

from mimzoo.convert import swin
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import BlockNames, SwinNames
from mimzoo.models import SwinBackbone, SwinV2Backbone

_NAMES = SwinNames(
    patch="embeddings.patch_embeddings.projection",
    patch_norm="embeddings.norm",
    block="encoder.layers.{}.blocks.{}",
    inside=BlockNames(
        norm1="layernorm_before",
        norm2="layernorm_after",
        qkv=tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
        projection="attention.output.dense",
        table="attention.self.relative_position_bias_table",
        logit_scale="attention.self.logit_scale",
        network="attention.self.continuous_position_bias_mlp",
        fc1="intermediate.dense",
        fc2="output.dense",
    ),
    merging="encoder.layers.{}.downsample",
    norm="layernorm",
    mask_token="embeddings.mask_token",
    head="classifier",
)
_STORED = {
    "image_size": "image_size",
    "window_size": "window_size",
    "pretrained_window_sizes": "pretrained_window_sizes",
    "layer_norm_eps": "layer_norm_epsilon",
    "image_mean": "mean",
    "image_std": "std",
}


def _variants(model: str, layout: Layout, mark: str) -> tuple[Layout, ...]:
    """The three that share an encoder; `mark` is a tensor of it."""
    prefixed = replace(_NAMES, prefix=f"{model}.")
    marks = (f"{model}.{mark}", f"{model}.layernorm.weight")
    return (
        replace(layout, name=f"hf_{model}", names=_NAMES, keys=(mark, "layernorm.weight")),
        replace(
            layout,
            name=f"hf_{model}_classifier",
            task="classifier",
            names=prefixed,
            keys=(*marks, "classifier.weight"),
        ),
        replace(
            layout,
            name=f"hf_{model}_simmim",
            task="simmim",
            names=prefixed,
            keys=(*marks, "decoder.0.weight"),
        ),
    )


_SWIN = Layout(
    name="",
    origin="huggingface/transformers, Swin",
    licence="unknown",
    backbone=SwinBackbone,
    task="backbone",
    configure=swin.configure,
    rows=swin.rows,
    names=_NAMES,
    keys=(),
    stored=_STORED,
)
_SWIN_V2 = replace(
    _SWIN,
    origin="huggingface/transformers, Swinv2",
    backbone=SwinV2Backbone,
    configure=swin.configure_v2,
)

_FIRST = "encoder.layers.0.blocks.0.attention.self"
LAYOUTS = (
    *_variants("swin", _SWIN, f"{_FIRST}.relative_position_bias_table"),
    *_variants("swinv2", _SWIN_V2, f"{_FIRST}.logit_scale"),
)
