"""Ours: the nano models on small photographs, CIFAR-10 at 32 px in colour.

All settings are those of the recipes for Fashion-MNIST (`nano.py`), except what the images ask for.
The images are a part of 80 Million Tiny Images (Krizhevsky, 2009); their card on the Hub,
`uoft-cs/cifar10`, gives the licence as unknown.
"""

import dataclasses

from mimzoo_training.recipes import nano
from mimzoo_training.recipes.recipe_kinds import PretrainRecipe

# Of 45,000 of the 50,000 training images, files 0000 to 4499 of each class (the other 5,000 are for
# validation), divided by 255: mean and standard deviation of each channel, in float64.
CIFAR10_MEAN = (0.4914339080371759, 0.4821059021820526, 0.44657728664556223)
CIFAR10_STD = (0.24538427433645837, 0.24302199882379247, 0.26082371477094013)
_RULES = {
    "crop": "32 px leave no room to enlarge crops",
    "crop_padding": "CIFAR's usual 4 of 32",
    "mean": "computed from the 45,000 images",
    "std": "computed from the 45,000 images",
}


def vit_nano_mae_cifar10(length: str = "20ep") -> PretrainRecipe:
    """MAE pretraining of ViT-nano (patch 4, 64 patches) on 45,000 images of CIFAR-10.

    Expect: validation loss 0.542; fine-tuned on 1,000 labels 52.8 % of 5,000 other images, against
    36.5 % from scratch (`results.json` of the bundled preset). Cost: 86 minutes on one busy CPU
    core, torch.

    Args:
        length: of the run.
    """
    return _on_cifar10(nano.vit_nano_mae_fmnist(length))


def swinv2_nano_simmim_cifar10(length: str = "15ep") -> PretrainRecipe:
    """SimMIM pretraining of SwinV2-nano on 45,000 images of CIFAR-10.

    Expect: validation loss 0.594; fine-tuned on 1,000 labels 43.0 % of 5,000 other images, against
    35.0 % from scratch. Cost: 76 minutes on one busy CPU core, torch.

    Args:
        length: of the run.
    """
    return _on_cifar10(nano.swinv2_nano_simmim_fmnist(length))


def mixmim_nano_cifar10(length: str = "10ep") -> PretrainRecipe:
    """MixMIM pretraining of MixMIM-nano on 45,000 images of CIFAR-10.

    Expect: validation loss 0.615; fine-tuned on 1,000 labels 46.1 % of 5,000 other images, against
    34.4 % from scratch. Cost: 53 minutes on one busy CPU core, torch.

    Args:
        length: of the run.
    """
    return _on_cifar10(nano.mixmim_nano_fmnist(length))


def _on_cifar10(recipe: PretrainRecipe) -> PretrainRecipe:
    inferred = {name: why for name, why in recipe.inferred.items() if name != "image_size"}
    return dataclasses.replace(
        recipe,
        name=recipe.name.replace("_fmnist_", "_cifar10_"),
        data="cifar10",
        num_examples=45_000,
        image_size=32,
        crop_padding=4,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        origin=recipe.origin.replace("small images", "small photographs"),
        inferred=inferred | _RULES,
    )
