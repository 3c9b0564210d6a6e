"""Pretraining one's own images without a recipe's name."""

import json
import signal

import keras
import numpy as np
import pytest
from mimzoo_training import cli, parts
from mimzoo_training.arguments import build_parser
from mimzoo_training.by_parts import chosen, fitting_batch, fitting_patch, measure, recipe_by_parts
from mimzoo_training.recipes import get_recipe, recipe_from_json
from mimzoo_training.run_options import overridden
from PIL import Image
from runs import _pico, at_step  # noqa: F401

from mimzoo.data import ArraySource
from mimzoo.pretraining import MAE

COUNT = 44


@pytest.fixture(scope="module")
def source() -> ArraySource:
    random = np.random.default_rng(0)
    images = random.normal((90, 130, 170), (20, 30, 40), (COUNT, 32, 32, 3))
    return ArraySource(images.clip(0, 255).astype("uint8"), name="photos train")


@pytest.fixture(scope="module")
def photos(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(source.images):
        Image.fromarray(image[:16, :16]).save(folder / f"{number}.png")
    return folder


def pretrain(photos, folder):
    given = "--method mae --backbone vit --size pico --image-size 16 --epochs 2 --backend"
    given = [*given.split(), keras.config.backend()]
    return cli.main(["pretrain", *given, "--data", str(photos), "--workdir", str(folder)])


def test_a_run_by_parts_stops_and_resumes(photos, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert pretrain(photos, tmp_path) == 143
    begun = json.loads((tmp_path / "recipe.json").read_text())
    recipe = begun["recipe"]
    assert recipe["name"] == f"vit_pico_mae_{photos.name}_2ep"
    assert recipe["batch_size"] == 2 if recipe["num_examples"] < 40 else 4
    assert recipe["mean"] == pytest.approx([90 / 255, 130 / 255, 170 / 255], abs=0.01)
    assert recipe["std"] == pytest.approx([20 / 255, 30 / 255, 40 / 255], abs=0.01)
    printed = capsys.readouterr().out
    assert f"mean {tuple(recipe['mean'])}" in printed
    assert "that of vit_base_mae_in1k_800ep" in printed
    assert pretrain(photos, tmp_path) == 0
    assert "resumed" in capsys.readouterr().out
    assert json.loads((tmp_path / "recipe.json").read_text()) == begun
    assert MAE.from_preset(tmp_path / "preset").decoder.embed_dim == 32


@pytest.mark.parametrize(
    ("method", "backbone", "size", "near"),
    [
        ("mae", "vit", "pico", "vit_base_mae_in1k_800ep"),
        ("simmim", "vit", "nano", "vit_base_simmim_in1k_800ep"),
        ("simmim", "swinv2", "nano", "swinv2_base_simmim_in1k_500k"),
        ("mixmim", "mixmim", "nano", "mixmim_base_in1k_600ep"),
        ("MixMIM", "swin", "nano", "mixmim_base_in1k_600ep"),
        ("data2vec", "data2vec", "nano", "vit_nano_data2vec_fmnist_10ep"),
    ],
)
@pytest.mark.one_backend
def test_every_method_gets_a_recipe(method, backbone, size, near, source):
    recipe = recipe_by_parts(method, backbone, size, 32, source)
    near = get_recipe(near)
    assert recipe.base_learning_rate == near.base_learning_rate
    assert recipe.peak_learning_rate == pytest.approx(
        near.peak_learning_rate * recipe.batch_size / near.batch_size
    )
    assert recipe.peak_learning_rate >= recipe.final_learning_rate
    assert recipe.task["config"].keys() == {"backbone", "masking", "decoder", "target"}
    assert (recipe.length, recipe.batch_size, recipe.data) == ("100ep", 4, "photos")
    assert recipe_from_json(recipe.to_json()) == recipe
    task = parts.build_task(recipe)
    again = parts.build_task(recipe_from_json(recipe.to_json()))
    for part in recipe.parts:
        assert task.get_config()[part] == again.get_config()[part]
    rules = chosen(recipe)
    for name in ("masking", "decoder", "target", "batch_size", "mean", "warmup", "length"):
        assert f"{name} " in rules


@pytest.mark.one_backend
def test_a_learning_rate_of_ones_own(source):
    given = ["pretrain", "--data", "photos", "--workdir", "run", "--learning-rate", "1e-3"]
    inferred = recipe_by_parts("mae", "vit", "nano", 32, source)
    recipe = overridden(inferred, build_parser().parse_args(given))
    assert recipe.peak_learning_rate == pytest.approx(1e-3 * recipe.batch_size / 256)
    assert "base_learning_rate 0.001: set for this run" in chosen(recipe)


@pytest.mark.one_backend
def test_what_fits_the_images(source):
    assert [fitting_patch(*one) for one in ((16, 1, 64), (16, 1, 32), (14, 1, 64))] == [16, 8, 16]
    assert [fitting_patch(4, 8, side) for side in (224, 128, 64)] == [4, 4, 2]
    with pytest.raises(ValueError, match="such as 64"):
        fitting_patch(16, 1, 61)
    with pytest.raises(ValueError, match="such as 64"):
        fitting_patch(4, 8, 32)
    assert [fitting_batch(n, 1) for n in (10, 449, 2560, 10**6)] == [1, 32, 256, 256]
    assert fitting_batch(3, 2) == 2
    with pytest.raises(ValueError, match="too few"):
        fitting_batch(1, 2)
    small = recipe_by_parts("mixmim", "mixmim", "nano", 16, source)
    assert small.part("backbone")["patch_size"] == 2
    assert "backbone.patch_size" in small.inferred


@pytest.mark.one_backend
def test_images_are_measured_as_they_are(source):
    pixels = source.images.reshape(-1, 3) / 255
    mean, std = measure(source, 32)
    np.testing.assert_allclose(mean, pixels.mean(0), atol=1e-4)
    np.testing.assert_allclose(std, pixels.std(0), atol=1e-4)
    black = ArraySource(np.zeros((3, 8, 8, 3), "uint8"))
    assert measure(black, 8) == ((0.0,) * 3, (round(1 / 255, 4),) * 3)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ("", "name a recipe"),
        ("--method mae", "needs --backbone, --size, --image-size, too"),
        ("vit_nano_mae_fmnist_20ep --size tiny", "--size is for a run without a recipe"),
        (
            "--method mea --backbone vit --size nano --image-size 16",
            "data2vec, mae, mixmim",
        ),
        ("--method mae --backbone vti --size nano --image-size 16", "data2vec, mixmim, swin, swin"),
        ("--method mae --backbone vit --size big --image-size 16", "nano, tiny, small, base"),
        ("--method mae --backbone swin --size nano --image-size 32", "use a ViTBackbone"),
        ("--method mae --backbone vit --size nano --image-size 31", "give another --image-size"),
    ],
)
@pytest.mark.one_backend
def test_errors_name_what_there_is(arguments, printed, photos, tmp_path, capsys):
    given = [*arguments.split(), "--backend", keras.config.backend()]
    code = cli.main(["pretrain", *given, "--data", str(photos), "--workdir", str(tmp_path / "w")])
    assert code == 1
    assert printed in capsys.readouterr().err
