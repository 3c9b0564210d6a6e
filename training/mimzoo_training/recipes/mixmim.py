"""MixMIM on ImageNet-1K: Liu et al., arXiv 2205.13137, as Sense-X/MixMIM (commit 2b2f5a9) has it.

Sources: exp/base_600ep/pretrain.sh and finetune.sh, main_pretrain.py, main_finetune.py,
util/lr_decay.py; results: README.md.
"""

from mimzoo_training.recipes.objects import Spec, keras_object
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe, PretrainRecipe

_IN1K = 1_281_167
_WINDOWS_384 = (16, 16, 24, 12)


def mixmim_task(
    size: str,
    *,
    unit: int = 32,
    shared: str = "batch",
    decoder: tuple[int, int, int] = (512, 8, 16),
) -> Spec:
    """MixMIM as published: half of the units mixed, normalised pixels, a transformer decoder.

    Args:
        size: of MixMIM's backbone.
        unit: side of a mask unit in pixels.
        shared: see MixMasking.
        decoder: width, blocks and heads.
    """
    width, depth, heads = decoder
    return keras_object(
        "MixMIM",
        backbone=keras_object("MixMIMBackbone", size=size, patch_size=4),
        masking=keras_object("MixMasking", mask_ratio=0.5, mask_patch_size=unit, shared=shared),
        target=keras_object("PixelTarget", normalize=True, loss="mse"),
        decoder=keras_object("MixMIMDecoder", embed_dim=width, depth=depth, num_heads=heads),
    )


def mixmim_in1k(size: str) -> PretrainRecipe:
    """MixMIM pretraining of MixMIM-B, L or H on ImageNet-1K, 600 epochs at 224 px.

    Published for base: batch 2048 (16 x 128, README.md), learning rate 1.5e-4 x batch / 256, AdamW
    with betas 0.9 and 0.95, weight decay 0.05, 40 epochs of warm-up, half-cosine to 0,
    RandomResizedCrop of 20 to 100 % of the area, flip, 24 of 49 units of 32 px, one mask for the
    batch of each device, normalised pixels. Our batch has one mask over all devices. Large was
    trained for 600 epochs, too; of its settings, and of huge, nothing is published.

    Expect, after fine-tuning at 224 px (README.md): base 85.1, large 85.9 % top-1; huge: not
    published. Cost: 3 x 16.3 (base), 35.9 (large) or 117.6 (huge) GMACs an image for the encoder.

    Args:
        size: "base", "large" or "huge".
    """
    inferred = {"crop_fraction": "validation of MIM is not published; fine-tuning's 224 / 256"}
    if size != "base":
        for name in ("batch_size", "base_learning_rate", "warmup", "crop_scale"):
            inferred[name] = "not published for this size: that of base"
        inferred["masking.mask_ratio"] = inferred["batch_size"]
    if size == "huge":
        inferred["length"] = "not published for this size: that of base and large"
    return PretrainRecipe(
        name=f"mixmim_{size}_in1k_600ep",
        backbone="mixmim",
        method="mixmim",
        task=mixmim_task(size),
        size=size,
        data="in1k",
        num_examples=_IN1K,
        image_size=224,
        length="600ep",
        batch_size=2048,
        base_learning_rate=1.5e-4,
        warmup="40ep",
        beta_2=0.95,
        crop_scale=(0.2, 1.0),
        origin=f"{'published' if size == 'base' else 'partly published'}: Sense-X/MixMIM "
        "exp/base_600ep/pretrain.sh, main_pretrain.py, README.md",
        inferred=inferred,
    )


def mixmim_finetune_in1k(size: str, image_size: int = 224) -> FinetuneRecipe:
    """Fine-tuning of MixMIM-B, L or H on ImageNet-1K at 224 or 384 px.

    Published for base at 224 px (finetune.sh, main_finetune.py): 100 epochs, 5 of warm-up, batch
    1024, learning rate 5e-4 x batch / 256, half-cosine to 1e-6, layer decay 0.7 in MixMIM's own
    groups, drop path 0.1, mixup 0.8, cutmix 1.0, label smoothing 0.1, RandAugment, random erasing
    0.25, no EMA, no clipping.

    Expect (README.md): base 85.1 at 224 px, 86.3 at 384 px; large 85.9 and 86.9 % top-1.

    Args:
        size: "base", "large" or "huge".
        image_size: 224, or 384 with windows of 16, 16, 24, 12 (README.md).
    """
    inferred = {"crop_scale": "timm's default for training crops; not in finetune.sh"}
    if size != "base" or image_size != 224:
        rule = "not published for this size: that of base at 224 px"
        for name in ("length", "base_learning_rate", "layer_decay", "drop_path_rate"):
            inferred[name] = rule
    return FinetuneRecipe(
        name=f"mixmim_{size}_finetune_in1k_{image_size}",
        backbone="mixmim",
        size=size,
        architecture={} if image_size == 224 else {"window_size": _WINDOWS_384},
        data="in1k",
        num_examples=_IN1K,
        image_size=image_size,
        length="100ep",
        batch_size=1024,
        base_learning_rate=5e-4,
        final_learning_rate=1e-6,
        warmup="5ep",
        beta_2=0.999,
        layer_decay=0.7,
        drop_path_rate=0.1,
        crop_scale=(0.08, 1.0),
        origin=f"{'published' if (size, image_size) == ('base', 224) else 'partly published'}: "
        "Sense-X/MixMIM exp/base_600ep/finetune.sh, main_finetune.py, util/lr_decay.py",
        inferred=inferred,
    )
