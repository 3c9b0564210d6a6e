"""MAE on ImageNet-1K: He et al., arXiv 2111.06377, as facebookresearch/mae (commit efb2a80) has it.

Sources: PRETRAIN.md, main_pretrain.py and util/lr_sched.py for pretraining, FINETUNE.md and
main_finetune.py for fine-tuning; results: README.md.
"""

from typing import Any

from mimzoo_training.recipes.objects import Spec, keras_object
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe, PretrainRecipe

_IN1K = 1_281_167


def mae_task(
    size: str,
    patch_size: int,
    decoder: tuple[int, int, int] = (512, 8, 16),
    target: Spec | None = None,
    **backbone: Any,
) -> Spec:
    """MAE as published: 75 % of the patches masked, normalised pixels, a transformer decoder.

    Args:
        size: of the ViT.
        patch_size: side of a patch in pixels.
        decoder: width, blocks and heads.
        target: in place of the normalised pixels.
        **backbone: further arguments of ViTBackbone.
    """
    width, depth, heads = decoder
    return keras_object(
        "MAE",
        backbone=keras_object("ViTBackbone", size=size, patch_size=patch_size, **backbone),
        masking=keras_object("RandomMasking", mask_ratio=0.75),
        target=target or keras_object("PixelTarget", normalize=True, loss="mse"),
        decoder=keras_object("MAEDecoder", embed_dim=width, depth=depth, num_heads=heads),
    )


def vit_mae_in1k(size: str, length: str = "800ep") -> PretrainRecipe:
    """MAE pretraining of ViT-B/16, ViT-L/16 or ViT-H/14 on ImageNet-1K.

    Every number is published (PRETRAIN.md, main_pretrain.py): batch 4096, learning rate 1.5e-4 x
    batch / 256 = 2.4e-3, AdamW with betas 0.9 and 0.95, weight decay 0.05, 40 epochs of warm-up,
    half-cosine to 0 in every step, RandomResizedCrop of 20 to 100 % of the area (bicubic), flip,
    75 % masked, normalised pixels, decoder of width 512 with 8 blocks and 16 heads.

    Expect, after fine-tuning on ImageNet-1K (README.md, the 1600-epoch models): B 83.6, L 85.9,
    H 86.9 % top-1 at 224 px. At 800 epochs mmpretrain measured 83.3 (B) and 85.4 (L).
    Cost: not measured by us. A forward pass over all patches is 17.6 (B), 61.6 (L) or 167.4 (H)
    GMACs an image (mmpretrain's metafile), of which the encoder here does a quarter.

    Args:
        size: "base", "large" or "huge".
        length: "1600ep", the released weights, or "800ep", the script's default.
    """
    return PretrainRecipe(
        name=f"vit_{size}_mae_in1k_{length}",
        method="mae",
        task=mae_task(size, 14 if size == "huge" else 16),
        size=size,
        data="in1k",
        num_examples=_IN1K,
        image_size=224,
        length=length,
        batch_size=4096,
        base_learning_rate=1.5e-4,
        warmup="40ep",
        beta_2=0.95,
        weight_decay=0.05,
        crop_scale=(0.2, 1.0),
        origin="published: facebookresearch/mae PRETRAIN.md, main_pretrain.py, util/lr_sched.py",
        inferred={"crop_fraction": "validation of MIM is not published; fine-tuning's 224 / 256"},
    )


def vit_mae_finetune_in1k(size: str) -> FinetuneRecipe:
    """Fine-tuning of MAE's ViT-B/16, ViT-L/16 or ViT-H/14 on ImageNet-1K at 224 px.

    Published (FINETUNE.md, main_finetune.py): 100 epochs for B, 50 for L and H, 5 of warm-up,
    batch 1024, learning rate 5e-4 (B) or 1e-3 (L, H) x batch / 256, half-cosine to 1e-6, layer
    decay 0.65 (B) or 0.75 (L, H), drop path 0.1 / 0.2 / 0.3, weight decay 0.05, betas 0.9 and
    0.999, mixup 0.8, cutmix 1.0, label smoothing 0.1, RandAugment, random erasing 0.25, no EMA,
    no clipping, mean of the patches + norm + linear layer that starts at 2e-5.

    Expect (README.md, over 1600-epoch weights): B 83.6, L 85.9, H 86.9 % top-1.
    Cost: 3 x 17.6 (B), 61.6 (L) or 167.4 (H) GMACs (mmpretrain's metafile) an image and pass.

    Args:
        size: "base", "large" or "huge".
    """
    base = size == "base"
    return FinetuneRecipe(
        name=f"vit_{size}_mae_finetune_in1k_224",
        size=size,
        data="in1k",
        num_examples=_IN1K,
        image_size=224,
        length="100ep" if base else "50ep",
        batch_size=1024,
        base_learning_rate=5e-4 if base else 1e-3,
        final_learning_rate=1e-6,
        warmup="5ep",
        beta_2=0.999,
        layer_decay=0.65 if base else 0.75,
        drop_path_rate={"base": 0.1, "large": 0.2, "huge": 0.3}[size],
        crop_scale=(0.08, 1.0),
        origin="published: facebookresearch/mae FINETUNE.md, main_finetune.py, util/lr_decay.py",
        inferred={"crop_scale": "torchvision's default for RandomResizedCrop; not in FINETUNE.md"},
    )
