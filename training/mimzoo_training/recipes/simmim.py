"""SimMIM on ImageNet, and the data-scaling grid on Swin V2.

Xie et al., SimMIM (arXiv 2111.09886), as microsoft/SimMIM (commit d3e29bc) has it; Xie et al., On
Data Scaling in Masked Image Modeling (arXiv 2206.04664), as microsoft/Swin-Transformer (commit
f82860b) has it: configs/simmim, models/simmim.py, MODELHUB.md.
"""

from typing import Any

from mimzoo.data.named_subsets import NAMED_SUBSETS
from mimzoo_training.recipes.objects import Spec, keras_object
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe, PretrainRecipe

_IN1K = 1_281_167
GRID_SIZES = ("small", "base", "large", "huge", "giant")
GRID_LENGTHS = ("125k", "250k", "500k")
GRID_DATA = {
    **{name: part.count for name, part in NAMED_SUBSETS.items() if part.whole == _IN1K},
    "in1k": _IN1K,
    "in22k": 14_197_122,
}
# SimMIM's optimizer.py: tokens, position tables, and Swin V2's bias network and logit scale.
_SPARED = ("mask_token", "position_bias", "positions", "logit_scale")
_PRETRAIN: dict[str, Any] = {
    "method": "simmim",
    "image_size": 192,
    "batch_size": 2048,
    "learning_rate_batch": 512,
    "beta_2": 0.999,
    "no_weight_decay": _SPARED,
    "clip_norm": 5.0,
    "crop_scale": (0.67, 1.0),
}


def simmim_task(backbone: Spec, unit: int = 32, window: int | None = None) -> Spec:
    """SimMIM as published: 60 % of the units masked, one linear layer, absolute error of pixels.

    Args:
        backbone: of `keras_object`.
        unit: side of a mask unit in pixels.
        window: side in pixels of the window that normalises the pixels; None: not normalised.
    """
    pixels = (
        keras_object("PixelTarget", normalize=False, loss="l1")
        if window is None
        else keras_object("SlidingWindowTarget", window_size=window, loss="l1")
    )
    return keras_object(
        "SimMIM",
        backbone=backbone,
        masking=keras_object("RandomMasking", mask_ratio=0.6, mask_patch_size=unit),
        target=pixels,
        decoder=keras_object("LinearDecoder"),
    )


# 800 epochs: constant rate, a tenth of it for the last eighth.
_LONG = {
    "base_learning_rate": 1e-4,
    "initial_learning_rate": 2e-6,
    "schedule": "multistep",
    "milestone": 700 / 800,
    "warmup": "10ep",
}
_CROP_RULE = {"crop_fraction": "validation of MIM is not published; fine-tuning's 224 / 256"}
_FINETUNE: dict[str, Any] = {
    "data": "in1k",
    "num_examples": _IN1K,
    "image_size": 224,
    "length": "100ep",
    "batch_size": 2048,
    "base_learning_rate": 1.25e-3,
    "learning_rate_batch": 512,
    "initial_learning_rate": 1e-6,
    "final_learning_rate": 1e-6,
    "warmup": "20ep",
    "beta_2": 0.999,
    "no_weight_decay": _SPARED,
    "clip_norm": 5.0,
    "head_init_std": 0.02,
    "crop_scale": (0.08, 1.0),
}
_FINETUNE_RULES = {
    "crop_scale": "timm's default for training crops; not in the configs",
    "head_init_std": "that of all linear layers in models/swin_transformer.py; not in the configs",
}


def swinv2_simmim_grid(size: str, data: str, length: str) -> PretrainRecipe:
    """A cell of the data-scaling grid: SimMIM on Swin V2 at 192 px, window 12.

    One run of the 75 is published as a config: base on all of ImageNet-1K for 500K iterations
    (simmim_pretrain__swinv2_base__img192_window12__800ep.yaml; 800 epochs of 625 steps). For all:
    batch 2048 (MODELHUB.md). What differs from that run is inferred: the learning rate, drop path
    and clipping of other sizes are those of base; the rate falls after 7/8 of the run and warms up
    over 6,250 iterations, as there. `in1k10`, `in1k20`, `in1k50` are the lists of
    `mimzoo.data.named_subset`: the authors published none.

    Expect: the losses and accuracies in the catalogue's entry of the same name (MODELHUB.md).
    Cost: 3 x 6.7 (small), 11.8, 26.0, 85.8 or 138.3 (giant) GMACs an image; 256, 512 or
    1,024 million images.

    Args:
        size: "small", "base", "large", "huge" or "giant".
        data: "in1k10", "in1k20", "in1k50", "in1k" or "in22k".
        length: "125k", "250k" or "500k".
    """
    inferred = dict(_CROP_RULE)
    if size != "base":
        for name in ("base_learning_rate", "drop_path_rate", "clip_norm"):
            inferred[name] = "not published for this size: that of base"
        inferred["backbone.window_size"] = "window not published for this size: that of base"
    if length != "500k":
        inferred["milestone"] = "not published for this length: 7/8 of the run, as at 500K"
        inferred["warmup"] = "not published for this length: 6,250 iterations, as at 500K"
    if data in NAMED_SUBSETS:
        inferred["data"] = "the authors' lists are not published: mimzoo.data.named_subset"
    published = (size, data, length) == ("base", "in1k", "500k")
    return PretrainRecipe(
        name=f"swinv2_{size}_simmim_{data}_{length}",
        backbone="swinv2",
        size=size,
        task=simmim_task(
            keras_object("SwinV2Backbone", size=size, patch_size=4, window_size=12), window=47
        ),
        data=data,
        num_examples=GRID_DATA[data],
        length=length,
        drop_path_rate=0.1,
        origin=f"{'published' if published else 'partly published'}: microsoft/Swin-Transformer "
        "configs/simmim, MODELHUB.md",
        inferred=inferred,
        **{
            **_PRETRAIN,
            **_LONG,
            "warmup": "6250it",
        },
    )


def swin_simmim_in1k(size: str, length: str = "800ep") -> PretrainRecipe:
    """SimMIM pretraining of Swin-B (192 px, window 6) or Swin-L (window 12) on ImageNet-1K.

    Published: configs/swin_base__100ep, swin_base__800ep, swin_large__800ep.

    Expect, after fine-tuning on ImageNet-1K (README.md): Swin-B 100 epochs 83.5 at 224 px, 800
    epochs 84.0; Swin-L 85.4 % top-1. Cost: Swin-B 18.8, Swin-L 55.9 GMACs a forward pass of the
    whole model (mmpretrain's metafile).

    Args:
        size: "base" or "large".
        length: "800ep", or "100ep" for base.
    """
    short = {
        "base_learning_rate": 2e-4,
        "initial_learning_rate": 4e-6,
        "final_learning_rate": 4e-5,
        "warmup": "10ep",
    }
    return PretrainRecipe(
        name=f"swin_{size}_simmim_in1k_{length}",
        backbone="swin",
        size=size,
        task=simmim_task(
            keras_object(
                "SwinBackbone", size=size, patch_size=4, window_size=6 if size == "base" else 12
            )
        ),
        data="in1k",
        num_examples=_IN1K,
        length=length,
        origin=f"published: microsoft/SimMIM configs/swin_{size}__{length}",
        inferred=dict(_CROP_RULE),
        **_PRETRAIN,
        **(short if length == "100ep" else _LONG),
    )


def vit_simmim_in1k() -> PretrainRecipe:
    """SimMIM pretraining of ViT-B/16 at 224 px on ImageNet-1K, 800 epochs.

    Published: configs/vit_base__800ep, config.py: one relative position bias for all blocks, no
    absolute positions, LayerScale from 0.1, no bias on the keys, drop path 0.1.

    Expect, after fine-tuning on ImageNet-1K (README.md): 83.8 % top-1.
    """
    return PretrainRecipe(
        name="vit_base_simmim_in1k_800ep",
        backbone="vit",
        size="base",
        task=simmim_task(
            keras_object(
                "ViTBackbone",
                size="base",
                patch_size=16,
                position_embedding="none",
                relative_position_bias="shared",
                qkv_bias="qv",
                layer_scale_init=0.1,
            )
        ),
        data="in1k",
        num_examples=_IN1K,
        length="800ep",
        drop_path_rate=0.1,
        origin="published: microsoft/SimMIM configs/vit_base__800ep",
        inferred=dict(_CROP_RULE),
        **{**_PRETRAIN, **_LONG, "image_size": 224},
    )


def swinv2_simmim_finetune_in1k(size: str) -> FinetuneRecipe:
    """Fine-tuning of the grid's Swin V2 on ImageNet-1K at 224 px, window 14.

    Published for base (simmim_finetune__swinv2_base__img224_window14__800ep.yaml): 100 epochs, 20
    of warm-up, batch 2048, learning rate 1.25e-3 x batch / 512, half-cosine to 1e-6, layer decay
    0.75, drop path 0.1, clipping 5, SimMIM's augmentation.

    Expect: the accuracies in the catalogue (MODELHUB.md).

    Args:
        size: "small", "base", "large", "huge" or "giant".
    """
    wide = size in ("large", "huge", "giant")
    inferred = dict(_FINETUNE_RULES)
    if size != "base":
        rule = "not published: that of SimMIM's Swin-L" if wide else "not published: that of base"
        inferred.update(layer_decay=rule, drop_path_rate=rule)
    return FinetuneRecipe(
        name=f"swinv2_{size}_simmim_finetune_in1k_224",
        backbone="swinv2",
        size=size,
        architecture={"window_size": 14},
        layer_decay=0.7 if wide else 0.75,
        drop_path_rate=0.2 if wide else 0.1,
        origin=f"{'published' if size == 'base' else 'partly published'}: "
        "microsoft/Swin-Transformer configs/simmim",
        inferred=inferred,
        **_FINETUNE,
    )


def swin_simmim_finetune_in1k(size: str, pretrained_for: str = "800ep") -> FinetuneRecipe:
    """Fine-tuning of SimMIM's Swin-B (window 7) or Swin-L (window 14) on ImageNet-1K at 224 px.

    Published: configs/swin_base__100ep, swin_base__800ep, swin_large__800ep. The layer decay of
    Swin-B is 0.9 after 100 epochs of pretraining and 0.8 after 800.

    Expect (README.md): Swin-B 83.5 and 84.0, Swin-L 85.4 % top-1.

    Args:
        size: "base" or "large".
        pretrained_for: "100ep" or "800ep".
    """
    decay = {("base", "100ep"): 0.9, ("base", "800ep"): 0.8, ("large", "800ep"): 0.7}
    after = "" if pretrained_for == "800ep" else f"_{pretrained_for}"
    return FinetuneRecipe(
        name=f"swin_{size}_simmim{after}_finetune_in1k_224",
        backbone="swin",
        size=size,
        architecture={"window_size": 7 if size == "base" else 14},
        layer_decay=decay[size, pretrained_for],
        drop_path_rate=0.1 if size == "base" else 0.2,
        origin=f"published: microsoft/SimMIM configs/swin_{size}__{pretrained_for}",
        inferred=dict(_FINETUNE_RULES),
        **_FINETUNE,
    )


def vit_simmim_finetune_in1k() -> FinetuneRecipe:
    """Fine-tuning of SimMIM's ViT-B/16 on ImageNet-1K at 224 px.

    Published: configs/vit_base__800ep: layer decay 0.65, one relative position bias a block, each
    starting from the shared one.

    Expect (README.md): 83.8 % top-1.
    """
    return FinetuneRecipe(
        name="vit_base_simmim_finetune_in1k_224",
        backbone="vit",
        size="base",
        architecture={"relative_position_bias": "per_block"},
        learned_positions=False,
        layer_decay=0.65,
        drop_path_rate=0.1,
        origin="published: microsoft/SimMIM configs/vit_base__800ep",
        inferred=dict(_FINETUNE_RULES),
        **_FINETUNE,
    )
