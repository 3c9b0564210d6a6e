"""Segmentation by command: a run, its resuming, its preset, and what is read from it."""

# ruff: noqa: F401, F811 (imported fixtures)

import json
import shutil

import numpy as np
import pytest
from mimzoo_training import cli
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.overlays import colours
from mimzoo_training.recipes import get_recipe, recipe_from_json
from mimzoo_training.segment import segment
from PIL import Image
from runs import (
    _pico,
    assert_keeps_its_images,
    assert_same_state,
    killed_at,
    log_of,
    preset,
    quiet,
    recipe,
    source,
    tensors,
    whole,
)

from mimzoo.data import open_label_maps
from mimzoo.models import ImageSegmenter
from mimzoo.optimizers import WarmupLinear


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """Ten images of 12 x 16 px for training and four for validation: dark left, bright right."""
    root, rng = tmp_path_factory.mktemp("data") / "city", np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 4)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            label = (np.arange(16) >= rng.integers(4, 12)) * np.ones((12, 1), "uint8")
            pixels = label[..., None] * 120 + rng.integers(0, 100, (12, 16, 3))
            label[0] = 7
            Image.fromarray(pixels.astype("uint8")).save(root / split / f"images/{number}.png")
            Image.fromarray(label.astype("uint8")).save(root / split / f"labels/{number}.png")
    (root / "classes.txt").write_text("dark\nbright\n")
    return root


OPTIONS = "--task segment --recipe vit_nano_segment_camvid_96 --image-size 8 --batch-size 4"
OPTIONS += " --ignore-index 7 --backend {}"


def run(*arguments):
    import keras

    text = OPTIONS.format(keras.backend.backend())
    return cli.main(["finetune", *text.split(), *map(str, arguments)])


def test_a_run_by_command_resumes_and_leaves_a_preset(preset, city, tmp_path, capsys, monkeypatch):
    arguments = preset, "--data", city, "--length", "12it", "--validation-every", 3
    assert run(*arguments, "--workdir", tmp_path / "whole") == 0
    result = json.loads((tmp_path / "whole/results.json").read_text())[0]
    assert result["metric"] == "mean IoU"
    assert [row["name"] for row in result["classes"]] == ["dark", "bright"]
    said = capsys.readouterr().out
    assert f"mean IoU {result['value']:.4f} on 4 images" in said
    assert "class" in said
    with monkeypatch.context() as patch:
        killed_at(patch, 7, run, *arguments, "--workdir", tmp_path / "parts")
    assert run(*arguments, "--workdir", tmp_path / "parts") == 0
    assert "resumed at step 7 of 12" in capsys.readouterr().out
    assert_same_state(tensors(tmp_path / "whole", 12), tensors(tmp_path / "parts", 12))
    begun = json.loads((tmp_path / "whole/recipe.json").read_text())["run"]
    assert begun["classes"] == ["dark", "bright"]
    assert begun["start_weights"]
    assert begun["validation_fingerprint"]
    rows = log_of(tmp_path / "whole")
    assert rows[-1]["val_mean_iou"] == pytest.approx(result["value"], abs=1e-5)
    assert all((tmp_path / f"whole/overlay_{epoch}.png").is_file() for epoch in (1, 6))

    place = tmp_path / "whole/preset"
    stored = recipe_from_json(json.loads((place / "recipe.json").read_text())["recipe"])
    assert stored.name.startswith("vit_pico_mae_tiny_12it_seg_city_8")
    card = (place / "README.md").read_text()
    assert "pipeline_tag: image-segmentation" in card
    assert "gives each pixel one of 2 classes" in card
    assert "a line to 0" in card
    model = ImageSegmenter.from_preset(str(place))
    assert model.class_names == ("dark", "bright")
    model.compile("sgd")
    held = open_label_maps(city, "validation", 2, ignore_index=7)
    values = model.evaluate(held, return_dict=True)
    assert values["mean_iou"] == pytest.approx(result["value"], abs=1e-5)
    assert model.ignore_index == 7
    assert model.evaluate(city, return_dict=True) == values

    assert cli.main(["evaluate", str(tmp_path / "whole"), "--data", str(city)]) == 0
    assert f"mean IoU {result['value']:.4f}" in capsys.readouterr().out
    image, out = city / "val/images/1.png", tmp_path / "pictures"
    assert cli.main(["predict", str(tmp_path / "whole"), str(image), "--out", str(out)]) == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(out / "1.png")),
        model.predict([np.asarray(Image.open(image))])[0],
    )
    assert Image.open(out / "1_overlay.png").size[0] > 100
    assert " %  " in capsys.readouterr().out
    assert_keeps_its_images(tmp_path / "whole", image, capsys)
    assert cli.main(["predict", preset, str(image), "--out", str(out)]) == 1
    assert "is no segmenter: `mimzoo finetune --task segment`" in capsys.readouterr().err


@pytest.mark.one_backend
def test_predict_numbers_classes_as_label_maps(preset, city, tmp_path):
    assert get_recipe("vit_base_mae_segment_ade20k_512").head_options["first_class"] == 1
    options = {"num_classes": 2, "image_shape": (8, 8, 3), "head_dim": 8}
    model = ImageSegmenter.from_preset(preset, first_class=3, **options)
    model.save_to_preset(tmp_path / "model")
    image, out = city / "val/images/1.png", tmp_path / "out"
    assert cli.main(["predict", str(tmp_path / "model"), str(image), "--out", str(out)]) == 0
    written = Image.open(out / "1.png")
    found = model.predict([np.asarray(Image.open(image))])[0]
    np.testing.assert_array_equal(np.asarray(written), found + 3)
    palette = np.array(written.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(palette[3:5], colours(2))


@pytest.mark.one_backend
def test_predict_keeps_label_maps_of_others(preset, city, tmp_path, capsys):
    options = {"num_classes": 2, "image_shape": (8, 8, 3), "head_dim": 8}
    ImageSegmenter.from_preset(preset, **options).save_to_preset(tmp_path / "model")
    shutil.copytree(city / "val", tmp_path / "val")
    image, labels = (tmp_path / "val" / kind for kind in ("images/1.png", "labels"))
    before = (labels / "1.png").read_bytes()
    for out, code in ((labels, 1), (tmp_path / "out", 0), (tmp_path / "out", 0)):
        command = ["predict", str(tmp_path / "model"), str(image), "--out", str(out)]
        assert cli.main(command) == code
        error = capsys.readouterr().err
        assert ("labels/1.png was not written by `mimzoo predict`" in error) == bool(code)
    assert (labels / "1.png").read_bytes() == before
    assert sorted(path.name for path in labels.iterdir()) == [f"{n}.png" for n in range(4)]


@pytest.mark.one_backend
def test_evaluate_refuses_what_segmenters_do_not_read(preset, city, tmp_path, capsys):
    options = {"num_classes": 2, "image_shape": (8, 8, 3), "head_dim": 8}
    ImageSegmenter.from_preset(preset, **options).save_to_preset(tmp_path)
    for option in ("--crop-fraction", "--batch-size"):
        assert cli.main(["evaluate", str(tmp_path), "--data", str(city), option, "1"]) == 1
        error = capsys.readouterr().err
        assert f"{option} has no effect on segmenters and detectors" in error


@pytest.mark.one_backend
def test_a_linear_probe_keeps_the_backbone(preset, city, tmp_path):
    arguments = preset, "--data", city, "--length", "4it", "--linear-probe"
    assert run(*arguments, "--workdir", tmp_path / "w") == 0
    model = ImageSegmenter.from_preset(str(tmp_path / "w/preset"))
    before = ImageSegmenter.from_preset(preset, num_classes=2, image_shape=(8, 8, 3))
    assert model.head_kind == "linear"
    for old, new in zip(before.backbone.get_weights(), model.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.one_backend
def test_what_is_refused(preset, city, source, tmp_path, capsys):
    def refused(*arguments):
        assert (
            run(preset, "--data", city, "--workdir", tmp_path / "w", "--length", "1it", *arguments)
            == 1
        )
        return capsys.readouterr().err

    assert "--ema is for classifiers" in refused("--ema", 0.9)
    error = refused("--linear-probe", "--drop-path-rate", 0.5)
    assert "--drop-path-rate has no effect with --linear-probe" in error
    error = refused("--linear-probe", "--head", "upernet")
    assert "--linear-probe has a linear head: leave --head out" in error
    assert "no recipe for segmentation" in refused("--recipe", "vit_nano_mae_finetune_fmnist_28")
    assert "names 2 classes, and num_classes is 3" in refused("--num-classes", 3)
    with pytest.raises(ValueError, match="tiny train has no label maps"):
        segment(preset, source, tmp_path / "v", get_recipe("vit_nano_segment_camvid_96"))
    other = ["finetune", preset, "--data", "x", "--workdir", str(tmp_path / "y")]
    assert cli.main([*other, "--first-class", "1"]) == 1
    assert "--first-class is for segmentation" in capsys.readouterr().err
    for option in ("--epochs", "--scale", "--learning-rate", "--layer-decay", "--ema"):
        value = "0.5" if option == "--ema" else "1"
        assert cli.main([*other, "--linear-probe", option, value]) == 1
        name = "--length" if option == "--epochs" else option
        assert f"{name} has no effect with --linear-probe" in capsys.readouterr().err
    plain = ["finetune", preset, "--data", str(city), "--workdir", str(tmp_path / "u")]
    assert cli.main(plain) == 1
    assert "has a label map beside each image: add --task segment" in capsys.readouterr().err


def test_the_rate_is_a_line():
    rate = WarmupLinear(1.0, 110, 10, final=0.1)
    assert [round(float(rate(step)), 4) for step in (0, 5, 10, 60, 110, 200)] == [
        0.0,
        0.5,
        1.0,
        0.55,
        0.1,
        0.1,
    ]
    same = WarmupLinear.from_config(rate.get_config())
    assert float(same(37)) == float(rate(37))
