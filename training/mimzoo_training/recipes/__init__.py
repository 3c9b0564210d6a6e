"""Recipes by name."""

import difflib
import functools
from collections.abc import Callable
from functools import partial

from mimzoo.run_length import length_unit
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.recipes.colour import (
    mixmim_nano_cifar10,
    swinv2_nano_simmim_cifar10,
    vit_nano_mae_cifar10,
)
from mimzoo_training.recipes.coyo import COYO_DATA, COYO_METHODS, COYO_SIZES, vit_mae_coyo
from mimzoo_training.recipes.detect import (
    mixmim_nano_detect_bccd,
    swinv2_nano_detect_bccd,
    vit_base_mae_detect_coco,
    vit_nano_detect_bccd,
)
from mimzoo_training.recipes.mae import vit_mae_finetune_in1k, vit_mae_in1k
from mimzoo_training.recipes.mixmim import mixmim_finetune_in1k, mixmim_in1k
from mimzoo_training.recipes.nano import (
    mixmim_nano_finetune_fmnist,
    mixmim_nano_fmnist,
    swinv2_nano_finetune_fmnist,
    swinv2_nano_simmim_fmnist,
    vit_nano_data2vec_fmnist,
    vit_nano_features_fmnist,
    vit_nano_finetune_fmnist,
    vit_nano_mae_fmnist,
)
from mimzoo_training.recipes.recipe_kinds import (
    AnyRecipe,
    DetectRecipe,
    FinetuneRecipe,
    PretrainRecipe,
    SegmentRecipe,
    recipe_from_json,
)
from mimzoo_training.recipes.segment import (
    mixmim_nano_segment_camvid,
    swinv2_nano_segment_camvid,
    vit_base_mae_segment_ade20k,
    vit_nano_segment_camvid,
)
from mimzoo_training.recipes.simmim import (
    GRID_DATA,
    GRID_LENGTHS,
    GRID_SIZES,
    swin_simmim_finetune_in1k,
    swin_simmim_in1k,
    swinv2_simmim_finetune_in1k,
    swinv2_simmim_grid,
    vit_simmim_finetune_in1k,
    vit_simmim_in1k,
)

__all__ = [
    "DetectRecipe",
    "FinetuneRecipe",
    "PretrainRecipe",
    "Recipe",
    "SegmentRecipe",
    "get_recipe",
    "list_recipes",
    "recipe_from_json",
]

_MAKERS: list[Callable[[], Recipe]] = [
    vit_nano_mae_fmnist,
    *(
        partial(vit_mae_in1k, size, length)
        for size in ("base", "large", "huge")
        for length in ("800ep", "1600ep")
    ),
    swinv2_nano_simmim_fmnist,
    *(
        partial(swinv2_simmim_grid, size, data, length)
        for size in GRID_SIZES
        for data in GRID_DATA
        for length in GRID_LENGTHS
    ),
    partial(swin_simmim_in1k, "base", "100ep"),
    partial(swin_simmim_in1k, "base", "800ep"),
    partial(swin_simmim_in1k, "large", "800ep"),
    vit_simmim_in1k,
    *(
        partial(vit_mae_coyo, size, data, method)
        for method in COYO_METHODS
        for size in COYO_SIZES
        for data in COYO_DATA
    ),
    vit_nano_features_fmnist,
    vit_nano_data2vec_fmnist,
    mixmim_nano_fmnist,
    *(partial(mixmim_in1k, size) for size in ("base", "large", "huge")),
    vit_nano_mae_cifar10,
    swinv2_nano_simmim_cifar10,
    mixmim_nano_cifar10,
    vit_nano_finetune_fmnist,
    swinv2_nano_finetune_fmnist,
    mixmim_nano_finetune_fmnist,
    *(partial(swinv2_simmim_finetune_in1k, size) for size in GRID_SIZES),
    partial(swin_simmim_finetune_in1k, "base", "800ep"),
    partial(swin_simmim_finetune_in1k, "base", "100ep"),
    partial(swin_simmim_finetune_in1k, "large", "800ep"),
    vit_simmim_finetune_in1k,
    *(partial(vit_mae_finetune_in1k, size) for size in ("base", "large", "huge")),
    *(
        partial(mixmim_finetune_in1k, size, pixels)
        for pixels in (224, 384)
        for size in ("base", "large", "huge")
        if (size, pixels) != ("huge", 384)
    ),
    vit_base_mae_segment_ade20k,
    vit_nano_segment_camvid,
    swinv2_nano_segment_camvid,
    mixmim_nano_segment_camvid,
    vit_base_mae_detect_coco,
    vit_nano_detect_bccd,
    swinv2_nano_detect_bccd,
    mixmim_nano_detect_bccd,
]


@functools.cache
def _recipes() -> dict[str, Recipe]:
    made = (make() for make in _MAKERS)
    return {recipe.name: recipe for recipe in made}


def _is_length(text: str) -> bool:
    try:
        length_unit(text)
    except ValueError:
        return False
    return True


def list_recipes(kind: str | None = None) -> list[str]:
    """Names of all recipes, or of those of a kind: "pretrain", "finetune", "segment", "detect"."""
    return [name for name, r in _recipes().items() if kind in (None, r.kind)]


def get_recipe(name: str) -> AnyRecipe:
    """A recipe by name. A pretraining recipe is found at any length: `..._30ep`.

    Raises:
        ValueError: an unknown name; the message offers the nearest ones.
    """
    known = _recipes()
    if name in known:
        return known[name]
    stem, _, length = name.rpartition("_")
    if _is_length(length):
        for recipe in known.values():
            if recipe.kind == "pretrain" and recipe.name.rpartition("_")[0] == stem:
                return recipe.with_length(length)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Nearest names: {', '.join(near)}." if near else "`mimzoo list` shows all names."
    raise ValueError(f"unknown recipe {name!r}. {hint}")
