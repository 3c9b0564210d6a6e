"""Detection: COCO with ViTDet's settings, and small blood smears (ours).

Source: detectron2 (projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py,
configs/common/models/mask_rcnn_vitdet.py, projects/ViTDet/configs/common/coco_loader_lsj.py,
projects/ViTDet/README.md).
"""

import dataclasses

from mimzoo_training.recipes.recipe_kinds import DetectRecipe


def vit_base_mae_detect_coco() -> DetectRecipe:
    """RetinaNet on ViTDet's pyramid of MAE's ViT-B/16, COCO, 1,024 px, 184,375 steps of 64 images.

    Published, for Mask R-CNN: AdamW at 1e-4, weight decay 0.1, layer decay 0.7, drop path 0.1;
    windows of 14 patches, but in blocks 2, 5, 8 and 11 (from 0); decomposed relative positions, and
    learned absolute ones that are not decayed; large-scale jitter of 0.1 to 2 and flip; a warm-up
    of 250 steps, a tenth of the rate from step 163,889 on.

    Expect: not measured by us. detectron2 reports 51.6 box AP for Mask R-CNN; our heads are
    RetinaNet's, one stage and no masks. Its second step of the rate, at 177,546, is not here, and
    its absolute positions keep the 14 x 14 of the pretraining, where ours become 64 x 64.
    """
    return DetectRecipe(
        name="vit_base_mae_detect_coco_1024",
        size="base",
        data="coco",
        num_examples=118_287,
        image_size=1024,
        length="184375it",
        batch_size=64,
        base_learning_rate=1e-4,
        learning_rate_batch=64,
        initial_learning_rate=1e-7,
        warmup="250it",
        schedule="multistep",
        milestone=163_889 / 184_375,
        beta_2=0.999,
        weight_decay=0.1,
        no_weight_decay=(r"(^|/)positions/",),
        layer_decay=0.7,
        drop_path_rate=0.1,
        architecture={
            "window_size": 14,
            "class_token": False,
            "final_norm": False,
            "position_embedding": "learned",
            "relative_position_bias": "decomposed",
        },
        origin="published for Mask R-CNN: detectron2 projects/ViTDet, mask_rcnn_vitdet_b_100ep",
        inferred={"milestone": "the first of two steps"},
    )


def vit_nano_detect_bccd() -> DetectRecipe:
    """RetinaNet on a nano ViT (width 128, 6 blocks, patch 4), windows of 128 px.

    For blood smears as BCCD's in 640 x 480 px, or other images of a few large objects.

    Expect: not measured at this length. A window has 1,024 tokens.
    """
    return DetectRecipe(
        name="vit_nano_detect_bccd_128",
        size="nano",
        data="bccd",
        num_examples=205,
        image_size=128,
        length="60ep",
        batch_size=8,
        base_learning_rate=5e-4,
        learning_rate_batch=8,
        warmup="5%",
        beta_2=0.999,
        layer_decay=0.8,
        drop_path_rate=0.1,
        crop_scale=(0.5, 2.0),
        min_level=2,
        neck_dim=96,
        head_dim=96,
        head_depth=2,
        clip_norm=1.0,
        origin="ours: ViTDet's augmentation on a small model and small images",
        inferred={
            "image_size": "32 x 32 patches of 4 px",
            "length": "about 1,500 steps",
            "base_learning_rate": "as small models are trained; not tuned",
            "warmup": "as the nano models are fine-tuned",
            "layer_decay": "as the nano models are fine-tuned: few blocks want little",
            "crop_scale": "an image of few pixels has nothing left at a tenth",
            "min_level": "its anchors, of 16 to 25 px, are of the size of most cells at 128 px",
            "head_dim": "small heads for a small backbone",
        },
    )


def swinv2_nano_detect_bccd() -> DetectRecipe:
    """RetinaNet on Swin V2-nano; see `vit_nano_detect_bccd`.

    Expect: not measured at this length.
    """
    return _nano("swinv2")


def mixmim_nano_detect_bccd() -> DetectRecipe:
    """RetinaNet on MixMIM-nano; see `vit_nano_detect_bccd`.

    Expect: not measured at this length.
    """
    return _nano("mixmim")


def _nano(backbone: str) -> DetectRecipe:
    recipe = vit_nano_detect_bccd()
    return dataclasses.replace(recipe, name=f"{backbone}_nano_detect_bccd_128", backbone=backbone)
