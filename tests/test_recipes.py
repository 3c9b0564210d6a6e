"""Recipes hold the published figures, say which are not, and survive JSON."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from mimzoo_training.recipes import get_recipe, list_recipes, recipe_from_json
from mimzoo_training.recipes.objects import build

from mimzoo.data.fashion_mnist import DEBIAN_FOLDER, FOLDER_VARIABLE, load
from mimzoo.hub.catalogue import catalogue, list_presets
from mimzoo.models.vit import VIT_SIZES

TODAY = Path(__file__).parent / "files_of_today"

# PRETRAIN.md of facebookresearch/mae; steps: 1,281,167 // 4096 = 312 an epoch.
MAE_PRETRAIN = {
    "batch_size": 4096,
    "base_learning_rate": 1.5e-4,
    "beta_1": 0.9,
    "beta_2": 0.95,
    "weight_decay": 0.05,
    "warmup": "40ep",
    "final_learning_rate": 0.0,
    "crop": "random_resized_crop",
    "crop_scale": (0.2, 1.0),
    "flip": 0.5,
    "clip_norm": None,
    "drop_path_rate": 0.0,
    "image_size": 224,
}
# FINETUNE.md, B / L / H.
MAE_FINETUNE = {
    "base": ("100ep", 5e-4, 0.65, 0.1),
    "large": ("50ep", 1e-3, 0.75, 0.2),
    "huge": ("50ep", 1e-3, 0.75, 0.3),
}


@pytest.mark.parametrize("size", ["base", "large", "huge"])
@pytest.mark.parametrize("epochs", [800, 1600])
def test_mae_pretraining_is_as_published(size, epochs):
    recipe = get_recipe(f"vit_{size}_mae_in1k_{epochs}ep")
    assert {name: getattr(recipe, name) for name in MAE_PRETRAIN} == MAE_PRETRAIN
    assert recipe.peak_learning_rate == pytest.approx(2.4e-3)
    assert recipe.steps(1_281_167) == (312 * epochs, 312 * 40)
    assert recipe.part("masking") == {"mask_ratio": 0.75}
    assert recipe.part("decoder") == {"embed_dim": 512, "depth": 8, "num_heads": 16}
    assert recipe.part("target") == {"normalize": True, "loss": "mse"}
    assert recipe.part("backbone") == {"size": size, "patch_size": VIT_SIZES[size][3]}
    assert recipe.origin.startswith("published")
    assert set(recipe.inferred) == {"crop_fraction"}


@pytest.mark.parametrize("size", ["base", "large", "huge"])
def test_mae_finetuning_is_as_published(size):
    recipe = get_recipe(f"vit_{size}_mae_finetune_in1k_224")
    length, rate, decay, drop = MAE_FINETUNE[size]
    assert (recipe.length, recipe.base_learning_rate) == (length, rate)
    assert (recipe.layer_decay, recipe.drop_path_rate) == (decay, drop)
    assert recipe.peak_learning_rate == pytest.approx({"base": 2e-3}.get(size, 4e-3))
    assert (recipe.batch_size, recipe.warmup, recipe.final_learning_rate) == (1024, "5ep", 1e-6)
    assert (recipe.beta_1, recipe.beta_2, recipe.weight_decay) == (0.9, 0.999, 0.05)
    assert (recipe.mixup, recipe.cutmix, recipe.label_smoothing) == (0.8, 1.0, 0.1)
    assert (recipe.rand_augment, recipe.random_erasing) == (True, 0.25)
    assert (recipe.pooling, recipe.head_init_std, recipe.ema_momentum) == ("avg", 2e-5, None)
    assert recipe.clip_norm is None


# simmim_pretrain__swinv2_base__img192_window12__800ep.yaml.
GRID = {
    "batch_size": 2048,
    "base_learning_rate": 1e-4,
    "learning_rate_batch": 512,
    "initial_learning_rate": 2e-6,
    "schedule": "multistep",
    "milestone": 0.875,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "weight_decay": 0.05,
    "clip_norm": 5.0,
    "drop_path_rate": 0.1,
    "crop_scale": (0.67, 1.0),
    "image_size": 192,
}


def test_the_grid_has_75_cells():
    cells = [catalogue()[n] for n in list_presets(grid="simmim_data_scaling", task="pretraining")]
    assert len(cells) == 75
    for cell in cells:
        recipe = get_recipe(cell.recipe)
        assert {name: getattr(recipe, name) for name in GRID} == GRID, cell.name
        assert recipe.part("masking") == {"mask_ratio": 0.6, "mask_patch_size": 32}
        assert recipe.part("target") == {"window_size": 47, "loss": "l1"}
        assert recipe.part("backbone") == {
            "size": recipe.size,
            "patch_size": 4,
            "window_size": 12,
        }
        assert recipe.peak_learning_rate == pytest.approx(4e-4)
        total, warmup = recipe.steps(recipe.num_examples)
        assert (total, warmup) == (int(recipe.length[:-1]) * 1000, 6250)
    counts = {"in1k10": 128_117, "in1k20": 256_233, "in1k50": 640_584, "in1k": 1_281_167}
    for data, count in counts.items():
        assert get_recipe(f"swinv2_small_simmim_{data}_125k").num_examples == count


def test_only_what_is_published_goes_as_published():
    base = get_recipe("swinv2_base_simmim_in1k_500k")
    assert base.origin.startswith("published")
    assert set(base.inferred) == {"crop_fraction"}
    assert base.steps(1_281_167) == (500_000, 6_250)
    assert 500_000 == 800 * (1_281_167 // 2048)
    other = get_recipe("swinv2_huge_simmim_in1k20_125k")
    assert other.origin.startswith("partly")
    assert {"base_learning_rate", "drop_path_rate", "milestone", "warmup", "data"} <= set(
        other.inferred
    )


def test_the_coyo_grid_is_ours_and_builds():
    names = [name for name, preset in catalogue().items() if preset.grid == "coyo_data_scaling"]
    assert len(names) == 30
    strong = get_recipe("vit_base_mae-clip_coyo1m_250k")
    assert strong.part("target")["teacher"] == "clip_vit_base_patch16"
    assert strong.steps(strong.num_examples)[0] * strong.batch_size == 1_024_000_000
    plain = get_recipe("vit_base_mae_coyo1m_250k")
    differ = {k for k, v in plain.to_json().items() if v != strong.to_json()[k]}
    assert differ == {"name", "task", "inferred"}
    for name in names:
        recipe = get_recipe(name)
        assert recipe.origin.startswith("ours")
        assert {"size", "data", "length", "batch_size", "base_learning_rate"} <= set(
            recipe.inferred
        )


def test_mixmim_is_as_published():
    recipe = get_recipe("mixmim_base_in1k_600ep")
    assert recipe.peak_learning_rate == pytest.approx(1.2e-3)
    masking = {"mask_ratio": 0.5, "mask_patch_size": 32, "shared": "batch"}
    assert recipe.part("masking") == masking
    assert recipe.steps(recipe.num_examples) == (600 * 625, 40 * 625)
    tuning = get_recipe("mixmim_base_finetune_in1k_224")
    assert tuning.peak_learning_rate == pytest.approx(2e-3)
    assert (tuning.layer_decay, tuning.drop_path_rate, tuning.length) == (0.7, 0.1, "100ep")
    large = get_recipe("mixmim_large_finetune_in1k_384")
    assert large.architecture["window_size"] == (16, 16, 24, 12)
    assert "layer_decay" in large.inferred


def test_simmims_own_recipes_are_as_published():
    short, long = (get_recipe(f"swin_base_simmim_in1k_{n}ep") for n in (100, 800))
    assert (short.peak_learning_rate, long.peak_learning_rate) == pytest.approx((8e-4, 4e-4))
    assert (short.schedule, short.final_learning_rate) == ("cosine", 4e-5)
    assert (long.schedule, long.milestone, long.initial_learning_rate) == ("multistep", 0.875, 2e-6)
    assert short.steps(1_281_167) == (62_500, 6_250)
    pixels = {"normalize": False, "loss": "l1"}
    assert short.part("target") == long.part("target") == pixels
    large, vit = (
        get_recipe("swin_large_simmim_in1k_800ep"),
        get_recipe("vit_base_simmim_in1k_800ep"),
    )
    windows = [recipe.part("backbone")["window_size"] for recipe in (large, short)]
    assert windows == [12, 6]
    assert (vit.image_size, vit.drop_path_rate, large.drop_path_rate) == (224, 0.1, 0.0)
    decays = {
        "swin_base_simmim_100ep_finetune_in1k_224": 0.9,
        "swin_base_simmim_finetune_in1k_224": 0.8,
        "swin_large_simmim_finetune_in1k_224": 0.7,
        "vit_base_simmim_finetune_in1k_224": 0.65,
        "swinv2_base_simmim_finetune_in1k_224": 0.75,
    }
    for name, decay in decays.items():
        recipe = get_recipe(name)
        assert (recipe.layer_decay, recipe.length, recipe.warmup) == (decay, "100ep", "20ep")
        assert recipe.peak_learning_rate == pytest.approx(5e-3)
        assert (recipe.final_learning_rate, recipe.clip_norm) == (1e-6, 5.0)


def test_a_cell_shrinks_under_another_name():
    cell = get_recipe("swinv2_base_simmim_in1k20_250k")
    trial = cell.scaled(0.001)
    assert trial.name == "swinv2_base_simmim_in1k20_250it"
    assert trial.steps(256_233) == (250, 25)
    assert "warmup" in trial.inferred
    assert cell.with_length("125k").steps(256_233) == (125_000, 6_250)
    for share in (0, 1.5, 1e-9):
        with pytest.raises(ValueError, match=r"scale must|less than one step"):
            cell.scaled(share)


@pytest.mark.parametrize(
    "name", ["vit_nano_mae_{}_20ep", "swinv2_nano_simmim_{}_30ep", "mixmim_nano_{}_10ep"]
)
def test_colour_recipes_differ_in_what_the_images_ask_for(name):
    grey, colour = (get_recipe(name.format(data)).to_json() for data in ("fmnist", "cifar10"))
    differ = {key for key, value in grey.items() if value != colour[key]} - {"image_size"}
    images = {"data", "num_examples", "crop_padding", "mean", "std"}
    assert differ == images | {"name", "origin", "inferred"}
    assert colour["image_size"] == 32
    assert len(set(colour["mean"])) == 3
    assert "28 px" not in str(colour["inferred"])


@pytest.mark.parametrize("name", list_recipes())
def test_json_keeps_a_recipe(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    assert recipe_from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_what_is_ours_is_marked_with_its_rule():
    for name in ("vit_nano_mae_fmnist_20ep", "vit_nano_mae_finetune_fmnist_28"):
        recipe = get_recipe(name)
        assert recipe.origin.startswith("ours")
        assert {"base_learning_rate", "batch_size", "mean", "crop"} <= set(recipe.inferred)
        assert all(len(rule) > 10 for rule in recipe.inferred.values())


def test_a_name_tells_what_was_changed():
    recipe = get_recipe("vit_nano_mae_fmnist_20ep")
    short = get_recipe("vit_nano_mae_fmnist_2ep")
    assert short == recipe.with_length("2ep")
    assert short.name == "vit_nano_mae_fmnist_2ep"
    assert "length" in short.inferred
    changed = short.with_changes(
        batch_size=64, task={"masking": {"mask_ratio": 0.5}}, seed=3, data="photos"
    )
    assert changed.name == "vit_nano_mae_photos_2ep_batch64_seed3_mask0.5"
    assert changed.with_changes(batch_size=64, seed=None) is changed
    tuned = get_recipe("vit_nano_mae_finetune_fmnist_28").with_changes(image_size=32)
    assert tuned.name == "vit_nano_mae_finetune_fmnist_32"


def test_a_shortened_run_shortens_a_long_warmup():
    recipe = get_recipe("vit_base_mae_in1k_800ep")
    assert recipe.with_length("400ep").warmup == "40ep"
    assert recipe.with_length("1600ep").warmup == "40ep"
    short = recipe.with_length("100ep")
    assert short.steps(1_281_167) == (31200, 3120)
    assert "warmup" in short.inferred
    assert recipe.with_length("5000it").steps(10_000) == (5000, 500)
    assert recipe.with_length("1e6img").steps(10_000) == (244, 24)


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="vit_nano_mae_fmnist_20ep"):
        get_recipe("vit_nano_mae_fmnst_100ep")
    with pytest.raises(ValueError, match="swinv2_base_simmim_in1k20_250k"):
        get_recipe("swinv2_base_simmim_in1k25_250k")
    with pytest.raises(ValueError, match="mimzoo list"):
        get_recipe("0000")


def test_lengths_that_make_no_run():
    recipe = get_recipe("vit_nano_mae_fmnist_20ep")
    with pytest.raises(ValueError, match="less than one step"):
        recipe.with_length("0.001ep").steps(60_000)
    with pytest.raises(ValueError, match="no length"):
        recipe.with_length("soon").steps(60_000)
    with pytest.raises(ValueError, match="batch_size"):
        recipe.with_changes(batch_size=0)
    with pytest.raises(ValueError, match="no recipe of this version"):
        recipe_from_json({**recipe.to_json(), "momentum": 0.9})
    with pytest.raises(ValueError, match=r"no class 'mimzoo>MAEs': import the package"):
        build({**recipe.task, "class_name": "mimzoo>MAEs"})
    with pytest.raises(ValueError, match=r"mimzoo>RandomMasking: .*'ratio'"):
        build(recipe.with_task(masking={"ratio": 0.5}).task)


def test_recipes_of_mimzoo_0_1_are_read():
    written = json.loads((TODAY / "recipes.json").read_text())
    for name, data in written.items():
        assert "task" not in data
        read, now = recipe_from_json(data), get_recipe(name)
        assert set(read.inferred) == set(now.inferred)
        assert dataclasses.replace(read, inferred=now.inferred) == now


@pytest.mark.parametrize(
    "name",
    # A cell of a study has that study instead (test_catalogue).
    [
        n
        for n in list_presets(task="pretraining")
        if catalogue()[n].grid != "nano_scaling" and ("k10_" in n or not n.startswith("swinv2_"))
    ],
)
def test_a_preset_has_the_recipe_it_is_named_after(name):
    recipe = get_recipe(catalogue()[name].recipe)
    axes = catalogue()[name].axes
    assert recipe.name == name
    # "mae-clip" is MAE towards another target.
    method = axes["method"].partition("-")[0]
    assert (recipe.method, recipe.size, recipe.data, recipe.length) == (
        method,
        axes["size"],
        axes["data"],
        axes["length"],
    )


@pytest.mark.skipif(
    FOLDER_VARIABLE not in os.environ and not os.path.isdir(DEBIAN_FOLDER),
    reason="needs the whole of Fashion-MNIST on this machine",
)
def test_fashion_mnist_statistics():
    images = load("train")[0].astype("float64") / 255
    recipe = get_recipe("vit_nano_mae_fmnist_20ep")
    assert len(images) == recipe.num_examples
    np.testing.assert_allclose(recipe.mean, [images.mean()] * 3, rtol=1e-12)
    np.testing.assert_allclose(recipe.std, [images.std()] * 3, rtol=1e-12)
