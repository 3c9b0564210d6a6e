"""Segmentation with UPerNet: ADE20K as published, and small street scenes (ours).

Source: mmsegmentation (configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py,
configs/_base_/models/upernet_mae.py, configs/_base_/datasets/ade20k.py).
"""

import dataclasses

from mimzoo_training.recipes.recipe_kinds import SegmentRecipe


def vit_base_mae_segment_ade20k() -> SegmentRecipe:
    """UPerNet on MAE's ViT-B/16, ADE20K (150 classes), 512 px windows, 160,000 steps of 16 images.

    Published: AdamW at 1e-4, betas 0.9 and 0.999, weight decay 0.05, layer decay 0.65, drop path
    0.1; 1,500 steps of warm-up from 1e-6 of the rate, then linearly to 0; UPerNet of 768 channels
    with dropout 0.1, an auxiliary head of 256 channels and weight 0.4 on the third map; scale 0.5
    to 2 of a shorter side of 512, windows of which no class has more than 75 %, flip, photometric
    changes; in the test windows of 512 with a stride of 256, images scaled to a shorter side of
    512. The label maps of SceneParsing number classes from 1, and 0 is ignored.

    Expect: mmsegmentation reports 48.13 mIoU from MAE's 1600-epoch weights. Not measured by us.
    mmsegmentation adds relative position bias and LayerScale (from 1.0) to the backbone, and its
    batch norm counts over all devices; neither is here.

    MAE's paper (table 5) has 53.6 for ViT-L; its learning rate, layer decay and drop path could not
    be verified, so there is no recipe for it.
    """
    return SegmentRecipe(
        name="vit_base_mae_segment_ade20k_512",
        size="base",
        data="ade20k",
        num_examples=20_210,
        image_size=512,
        length="160k",
        batch_size=16,
        base_learning_rate=1e-4,
        learning_rate_batch=16,
        initial_learning_rate=1e-10,
        warmup="1500it",
        schedule="linear",
        beta_2=0.999,
        layer_decay=0.65,
        drop_path_rate=0.1,
        architecture={"final_norm": False},
        head_dim=768,
        shorter_side=512,
        first_class=1,
        origin="published: mmsegmentation configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k",
    )


def vit_nano_segment_camvid() -> SegmentRecipe:
    """UPerNet on a nano ViT (width 128, 6 blocks, patch 4), windows of 96 px.

    For street scenes as small as CamVid's in 480 x 360 px, or other images of that size.

    Expect: not measured at this length. A window has 576 tokens.
    """
    return SegmentRecipe(
        name="vit_nano_segment_camvid_96",
        size="nano",
        data="camvid",
        num_examples=367,
        image_size=96,
        length="60ep",
        batch_size=16,
        base_learning_rate=1e-3,
        learning_rate_batch=16,
        warmup="5%",
        schedule="linear",
        beta_2=0.999,
        layer_decay=0.8,
        drop_path_rate=0.1,
        origin="ours: the ADE20K recipe on a small model and small images",
        inferred={
            "image_size": "24 x 24 patches of 4 px",
            "length": "about 1,300 steps",
            "base_learning_rate": "as small models are trained; not tuned",
            "warmup": "as the nano models are fine-tuned",
            "layer_decay": "as the nano models are fine-tuned: few blocks want little",
        },
    )


def swinv2_nano_segment_camvid() -> SegmentRecipe:
    """UPerNet on Swin V2-nano, windows of 128 px; see `vit_nano_segment_camvid`.

    Expect: not measured at this length.
    """
    return _nano("swinv2", 128)


def mixmim_nano_segment_camvid() -> SegmentRecipe:
    """UPerNet on MixMIM-nano, windows of 128 px; see `vit_nano_segment_camvid`.

    Expect: not measured at this length.
    """
    return _nano("mixmim", 128)


def _nano(backbone: str, image_size: int) -> SegmentRecipe:
    recipe = vit_nano_segment_camvid()
    return dataclasses.replace(
        recipe,
        name=f"{backbone}_nano_segment_camvid_{image_size}",
        backbone=backbone,
        image_size=image_size,
        inferred={**recipe.inferred, "image_size": "32 x 32 patches of 4 px"},
    )
