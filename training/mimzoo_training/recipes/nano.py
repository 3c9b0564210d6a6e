"""Ours: models of about a million weights on Fashion-MNIST, for the package and a CPU.

No number here is published. Each is listed in `inferred` with the rule that gave it.
"""

import dataclasses

from mimzoo_training.recipes.mae import mae_task
from mimzoo_training.recipes.mixmim import mixmim_task
from mimzoo_training.recipes.objects import keras_object
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe, PretrainRecipe
from mimzoo_training.recipes.simmim import simmim_task

# Of the 60,000 training images, divided by 255: mean and standard deviation over all pixels of
# all images, computed in float64 from train-images-idx3-ubyte. Grey, so three times the same.
FMNIST_MEAN = (0.2860405969887955,) * 3
FMNIST_STD = (0.35302424451492254,) * 3
_SHARED = {
    "size": "nano",
    "data": "fmnist",
    "num_examples": 60_000,
    "image_size": 28,
    "crop": "crop_pad",
    "crop_padding": 3,
    "crop_fraction": 1.0,
    "mean": FMNIST_MEAN,
    "std": FMNIST_STD,
}
_RULES = {
    "crop": "28 px leave no room to enlarge crops",
    "crop_padding": "an eighth of the side, rounded down: CIFAR's usual 4 of 32",
    "crop_fraction": "the images are used whole",
    "mean": "computed from the 60,000 training images",
    "std": "computed from the 60,000 training images",
}


def vit_nano_mae_fmnist(length: str = "20ep") -> PretrainRecipe:
    """MAE pretraining of ViT-nano (width 128, 6 blocks, 4 heads, patch 4) on Fashion-MNIST.

    All 60,000 training images at 28 px, 75 % of the 49 patches masked, a decoder of width 64
    with 2 blocks and 2 heads. Stored as float16: 2.6 MB with the decoder.

    Expect: validation loss 0.414; fine-tuned on 1,000 labels 81.6 % test accuracy, against 68.7 %
    from scratch (`results.json` of the bundled preset). Cost: 54 minutes on one CPU core, torch.

    Args:
        length: of the run.
    """
    return PretrainRecipe(
        name=f"vit_nano_mae_fmnist_{length}",
        method="mae",
        task=mae_task("nano", 4, decoder=(64, 2, 2)),
        length=length,
        batch_size=256,
        base_learning_rate=1.5e-3,
        warmup="5%",
        beta_2=0.95,
        preset_dtype="float16",
        origin="ours: MAE's recipe on a small model and small images",
        inferred={
            **_RULES,
            "base_learning_rate": "ten times MAE's: the model is six times narrower than ViT-B",
            "batch_size": "the batch that MAE's learning rate is quoted for",
            "warmup": "MAE's 40 of 800 epochs",
            "decoder.embed_dim": "half the encoder's: it sees all patches, most of the work",
            "decoder.depth": "a third of the encoder's blocks; MAE-B has two thirds",
            "decoder.num_heads": "heads of 32, as the encoder has and MAE's decoder",
            "preset_dtype": "keeps the preset below 5 MB",
        },
        **_SHARED,
    )


def vit_nano_features_fmnist(length: str = "5ep") -> PretrainRecipe:
    """MAE's masking and decoder on ViT-nano, towards the features of the bundled MAE preset.

    The teacher is `vit_nano_mae_fmnist_20ep`: its last features of the hidden
    patches, each normalised, are what the decoder has to give; smooth L1. Stored as float16.

    Expect: validation loss 0.076; a linear probe on 1,000 labels gives 78.0 % test accuracy after
    this quarter of the teacher's length (the teacher's own: 80.3 %). Cost: 54 minutes on one busy
    CPU core, torch in mixed_bfloat16.

    Args:
        length: of the run.
    """
    teacher = "vit_nano_mae_fmnist_20ep"
    target = keras_object("FeatureTarget", loss="smooth_l1", teacher=teacher)
    recipe = vit_nano_mae_fmnist(length).with_task(target=target)
    return dataclasses.replace(
        recipe,
        name=f"vit_nano_mae-features_fmnist_{length}",
        origin="ours: MAE with a strong target on a small model and small images",
        inferred={
            **recipe.inferred,
            "target": "the features of a model that fine-tunes well, as in the COYO grid",
            "target.loss": "as in the COYO grid",
        },
    )


def vit_nano_data2vec_fmnist(length: str = "10ep") -> PretrainRecipe:
    """data2vec 2.0 pretraining of ViT-nano, with its post-norm blocks, on Fashion-MNIST.

    All 60,000 training images at 28 px, four masks an image with 9 of 49 patches visible, a
    teacher that follows the student, two grouped convolutions of width 128. Stored as float16.

    Expect: not measured at this size; docs/data2vec.md measures width 32 beside MAE.

    Args:
        length: of the run.
    """
    published = "data2vec's base, config/v2/base_images_only_task.yaml"
    steps = 624
    task = keras_object(
        "Data2Vec",
        backbone=keras_object("Data2VecBackbone", size="nano", patch_size=4),
        masking=keras_object("InverseBlockMasking", mask_ratio=0.8, masks_per_image=4),
        decoder=keras_object("ConvDecoder", depth=2, kernel_size=3, groups=16),
        target=keras_object(
            "Data2VecTarget",
            teacher=keras_object("EMA", momentum=0.968, end=0.9984, steps=steps),
            top=5,
        ),
        class_loss=2.56,
    )
    return PretrainRecipe(
        name=f"vit_nano_data2vec_fmnist_{length}",
        method="data2vec",
        task=task,
        length=length,
        batch_size=256,
        base_learning_rate=1.5e-3,
        warmup="13%",
        beta_2=0.95,
        clip_norm=4.0,
        preset_dtype="float16",
        origin="ours: data2vec 2.0 on a small model and small images",
        inferred={
            **_RULES,
            "base_learning_rate": "as the nano ViT",
            "batch_size": "as the nano ViT",
            "warmup": f"50,040 of 375,300 updates in {published}",
            "masking.masks_per_image": "four in place of 16: the step's cost",
            "decoder.depth": "a third of the backbone's blocks; base has half",
            "target.teacher": "momenta whose time to forget is the published share of the run, of "
            "ten epochs",
            "target.top": "five sixths of the blocks, as base",
            "preset_dtype": "keeps the preset below 5 MB",
        },
        **_SHARED,
    )


def vit_nano_finetune_fmnist() -> FinetuneRecipe:
    """Fine-tuning of ViT-nano on Fashion-MNIST at 28 px, for few labels (1,000) or all.

    Expect: not measured at this length; `benchmarks/few_labels.py` measures 30 epochs.
    """
    return FinetuneRecipe(
        name="vit_nano_mae_finetune_fmnist_28",
        length="100ep",
        batch_size=100,
        base_learning_rate=2.5e-3,
        final_learning_rate=1e-6,
        warmup="5ep",
        beta_2=0.999,
        layer_decay=0.75,
        drop_path_rate=0.1,
        label_smoothing=0.1,
        mixup=0.0,
        cutmix=0.0,
        random_erasing=0.0,
        rand_augment=False,
        origin="ours: MAE's fine-tuning on a small model, small images and few labels",
        inferred={
            **_RULES,
            "length": "MAE's for ViT-B",
            "batch_size": "ten steps an epoch on 1,000 labels",
            "base_learning_rate": "peak of about 1e-3 at batch 100, as small ViTs are trained",
            "layer_decay": "MAE's for L and H: few blocks want little decay",
            "mixup": "off: 28 px and few steps want weak augmentation",
            "cutmix": "off, as mixup",
            "random_erasing": "off, as mixup",
            "rand_augment": "off, as mixup",
        },
        **_SHARED,
    )


_SWIN = {
    **_SHARED,
    "backbone": "swinv2",
    "image_size": 32,
    "learning_rate_batch": 512,
    "beta_2": 0.999,
    "no_weight_decay": ("mask_token", "position_bias", "logit_scale"),
}
_SWIN_RULES = {
    **_RULES,
    "image_size": "28 px enlarged, so that two stages of 8 and 4 tokens divide it",
}


def swinv2_nano_simmim_fmnist(length: str = "30ep") -> PretrainRecipe:
    """SimMIM pretraining of SwinV2-nano (width 64, 2 + 4 blocks, patch 4) on Fashion-MNIST.

    All 60,000 training images, enlarged to 32 px; 10 of 16 units of 8 px masked, pixels normalised
    by the mean and std of a window of 7 px as target, stored as float16.

    Expect: validation loss 0.297; fine-tuned on 1,000 labels 80.0 % test accuracy, against 72.6 %
    from scratch (`results.json` of the bundled preset). Cost: 79 minutes on one busy CPU core,
    torch in mixed_bfloat16.

    Args:
        length: of the run.
    """
    return PretrainRecipe(
        name=f"swinv2_nano_simmim_fmnist_{length}",
        method="simmim",
        task=simmim_task(
            keras_object("SwinV2Backbone", size="nano", patch_size=4), unit=8, window=7
        ),
        length=length,
        batch_size=256,
        base_learning_rate=4e-3,
        warmup="5%",
        clip_norm=5.0,
        preset_dtype="float16",
        origin="ours: SimMIM's recipe on a small model and small images",
        inferred={
            **_SWIN_RULES,
            "base_learning_rate": "a peak of 2e-3 at batch 256: the model is narrow, the run short",
            "batch_size": "as the nano ViT",
            "warmup": "as the nano ViT; SimMIM's 10 of 800 epochs would be few steps",
            "schedule": "half a cosine, as SimMIM's 100 epochs: a short run",
            "masking.mask_patch_size": "the stride of the backbone, as SimMIM's 32 px",
            "target.window_size": "47 of 192 px, rounded down to an odd number",
            "preset_dtype": "keeps the preset below 5 MB",
        },
        **_SWIN,
    )


def swinv2_nano_finetune_fmnist() -> FinetuneRecipe:
    """Fine-tuning of SwinV2-nano on Fashion-MNIST at 32 px, for few labels (1,000) or all.

    Expect: not measured at this length; `benchmarks/few_labels.py` measures 30 epochs.
    """
    return FinetuneRecipe(
        name="swinv2_nano_simmim_finetune_fmnist_32",
        length="100ep",
        batch_size=100,
        base_learning_rate=5e-3,
        final_learning_rate=1e-6,
        warmup="5ep",
        layer_decay=0.8,
        drop_path_rate=0.1,
        clip_norm=5.0,
        head_init_std=0.02,
        label_smoothing=0.1,
        mixup=0.0,
        cutmix=0.0,
        random_erasing=0.0,
        rand_augment=False,
        origin="ours: SimMIM's fine-tuning on a small model, small images and few labels",
        inferred={
            **_SWIN_RULES,
            "length": "SimMIM's",
            "batch_size": "ten steps an epoch on 1,000 labels",
            "base_learning_rate": "a peak of about 1e-3 at batch 100, as small models are trained",
            "layer_decay": "SimMIM's for Swin-B after long pretraining: few blocks want little",
            "mixup": "off: 28 px and few steps want weak augmentation",
            "cutmix": "off, as mixup",
            "random_erasing": "off, as mixup",
            "rand_augment": "off, as mixup",
        },
        **_SWIN,
    )


_MIXMIM = {**_SHARED, "backbone": "mixmim", "image_size": 32}
_MIXMIM_RULES = {**_RULES, "image_size": _SWIN_RULES["image_size"]}


def mixmim_nano_fmnist(length: str = "10ep") -> PretrainRecipe:
    """MixMIM pretraining of MixMIM-nano (width 64, 2 + 4 blocks, patch 4) on Fashion-MNIST.

    All 60,000 training images, enlarged to 32 px; pairs share 8 of 16 units of 8 px each, a
    decoder of width 64 with 2 blocks and 2 heads, pixels normalised per position. Stored as
    float16.

    Expect: validation loss 0.332; a linear probe on 1,000 labels gives 79.5 % test accuracy
    (`results.json` of the bundled preset); fine-tuning was not measured. Cost: 154 seconds an epoch
    on one CPU core where it was quiet, torch in mixed_bfloat16.

    Args:
        length: of the run.
    """
    return PretrainRecipe(
        name=f"mixmim_nano_fmnist_{length}",
        method="mixmim",
        task=mixmim_task("nano", unit=8, shared="pair", decoder=(64, 2, 2)),
        length=length,
        batch_size=256,
        base_learning_rate=1.5e-3,
        warmup="5%",
        beta_2=0.95,
        preset_dtype="float16",
        origin="ours: MixMIM's recipe on a small model and small images",
        inferred={
            **_MIXMIM_RULES,
            "base_learning_rate": "as the nano ViT",
            "batch_size": "as the nano ViT",
            "warmup": "as the nano ViT",
            "masking.mask_patch_size": "the stride of the backbone, as MixMIM's 32 px",
            "masking.shared": "one mask for 256 images would leave 234 masks an epoch",
            "decoder.embed_dim": "half of the encoder's last stage, as MixMIM-B's 512 of 1024",
            "decoder.depth": "as the nano ViT",
            "decoder.num_heads": "heads of 32, as MixMIM's",
            "preset_dtype": "keeps the preset below 5 MB",
        },
        **_MIXMIM,
    )


def mixmim_nano_finetune_fmnist() -> FinetuneRecipe:
    """Fine-tuning of MixMIM-nano on Fashion-MNIST at 32 px, for few labels (1,000) or all.

    Expect: not measured at this length; `benchmarks/few_labels.py` measures 30 epochs.
    """
    return dataclasses.replace(
        vit_nano_finetune_fmnist(),
        name="mixmim_nano_finetune_fmnist_32",
        origin="ours: MixMIM's fine-tuning on a small model, small images and few labels",
        inferred={
            **vit_nano_finetune_fmnist().inferred,
            **_MIXMIM_RULES,
            "length": "MixMIM's for base",
            "layer_decay": "as the nano ViT",
        },
        **_MIXMIM,
    )
