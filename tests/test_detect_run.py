"""Detection by command: a run, its resuming, its preset, and what is read from it."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import json
import shutil

import numpy as np
import pytest
from box_files import OBJECTS, picture, png, write, xml
from mimzoo_training import cli
from mimzoo_training.dense import build_dense
from mimzoo_training.detect import detect, measure
from mimzoo_training.recipes import get_recipe, list_recipes, recipe_from_json
from PIL import Image
from runs import (
    _pico,
    assert_keeps_its_images,
    assert_same_state,
    killed_at,
    log_of,
    preset,
    recipe,
    source,
    tensors,
    whole,
)

from mimzoo.data import open_boxes
from mimzoo.models import ObjectDetector
from mimzoo.optimizers.groups import matches_any


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Ten images of 24 x 32 px for training and two for validation."""
    root = tmp_path_factory.mktemp("data") / "cells"
    for split, count in (("train", 10), ("val", 2)):
        for number in range(count):
            objects = OBJECTS[number % 4]
            write(root / split / f"images/{number}.png", png(picture(objects)))
            write(root / split / f"annotations/{number}.xml", xml(objects))
    return root


def run(*arguments):
    import keras

    text = f"--task detect --image-size 16 --batch-size 2 --backend {keras.backend.backend()}"
    return cli.main(["finetune", *text.split(), *map(str, arguments)])


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """A small neck and head on the nano recipe, whose name the tests use."""
    from mimzoo_training import recipes

    small = dataclasses.replace(
        get_recipe("vit_nano_detect_bccd_128"), neck_dim=8, head_dim=8, head_depth=1
    )
    monkeypatch.setitem(recipes._recipes(), small.name, small)


RECIPE = "--recipe", "vit_nano_detect_bccd_128"
START = "vit_nano_mae_fmnist_20ep"


def test_a_run_by_command_resumes_and_leaves_a_preset(preset, cells, tmp_path, capsys, monkeypatch):
    arguments = preset, "--data", cells, *RECIPE, "--length", "10it", "--validation-every", 5
    assert run(*arguments, "--workdir", tmp_path / "whole") == 0
    result = json.loads((tmp_path / "whole/results.json").read_text())[0]
    assert result["metric"] == "box AP50"
    assert [row["name"] for row in result["classes"]] == ["bar", "dot"]
    said = capsys.readouterr().out
    assert f"box AP50 {result['value']:.4f} on 2 images" in said
    assert "objects" in said
    with monkeypatch.context() as patch:
        killed_at(patch, 7, run, *arguments, "--workdir", tmp_path / "parts")
    assert cli.main(["finish", str(tmp_path / "parts")]) == 0
    assert run(*arguments, "--workdir", tmp_path / "parts") == 0
    assert "resumed at step 7 of 10" in capsys.readouterr().out
    assert_same_state(tensors(tmp_path / "whole", 10), tensors(tmp_path / "parts", 10))
    rows = log_of(tmp_path / "whole")
    assert rows[-1]["val_ap50"] == pytest.approx(result["value"], abs=1e-5)
    assert rows[-1]["val_loss"] > 0
    assert (tmp_path / "whole/overlay_2.png").is_file()

    place = tmp_path / "whole/preset"
    stored = recipe_from_json(json.loads((place / "recipe.json").read_text())["recipe"])
    assert stored.name.startswith("vit_pico_mae_tiny_12it_det_cells_16")
    card = (place / "README.md").read_text()
    assert "pipeline_tag: object-detection" in card
    assert "type: mAP" in card
    assert "Fine-tuned on" in card
    model = ObjectDetector.from_preset(str(place))
    assert model.class_names == ("bar", "dot")
    held = open_boxes(cells, "validation", class_names=model.class_names)
    assert measure(model, held)[1].ap50 == pytest.approx(result["value"], abs=1e-5)

    assert cli.main(["evaluate", str(tmp_path / "whole"), "--data", str(cells)]) == 0
    assert f"AP50 {result['value']:.4f}" in capsys.readouterr().out
    image, out = cells / "val/images/1.png", tmp_path / "pictures"
    assert cli.main(["predict", str(tmp_path / "whole"), str(image), "--out", str(out)]) == 0
    assert Image.open(out / "1_overlay.png").size[0] > 100
    assert "overlays of 1 images" in capsys.readouterr().out
    assert_keeps_its_images(tmp_path / "whole", image, capsys)


@pytest.mark.one_backend
def test_scores_follow_from_boxes(cells, tmp_path):
    """Right ones give 1, moved ones 0; an image that cannot be read counts nowhere."""
    held = open_boxes(cells, "validation")

    class Known:
        num_classes, class_names = 2, held.class_names

        def __init__(self, offset):
            self.offset = offset

        def evaluate(self, source, **_):
            return {"loss": 0.0}

        def predict(self, images):
            found = [held.objects(index) for index in range(len(held))][-len(images) :]
            return [
                {
                    "boxes": o.boxes + self.offset,
                    "labels": o.labels,
                    "confidence": np.ones(len(o.labels)),
                }
                for o in found
            ]

    assert measure(Known(0), held)[1].ap == pytest.approx(1)
    assert measure(Known(40), held)[1].ap == 0
    broken = shutil.copytree(cells, tmp_path / "cells")
    (broken / "val/images/0.png").write_bytes(b"no image")
    assert measure(Known(0), open_boxes(broken, "validation"))[1].ap == pytest.approx(1)


@pytest.mark.one_backend
def test_what_is_refused(preset, cells, source, tmp_path, capsys):
    def refused(*arguments, data=cells):
        where = "--data", data, "--workdir", tmp_path / "w", "--length", "1it"
        assert run(preset, *where, *arguments) == 1
        return capsys.readouterr().err

    assert "there is no recipe for the backbone of" in refused()
    assert "--ema is not for detection" in refused("--ema", 0.9)
    assert "--linear-probe is not for detection" in refused("--linear-probe")
    assert "--first-class is for segmentation" in refused("--first-class", 1)
    assert "no recipe for detection" in refused("--recipe", "vit_nano_segment_camvid_96")
    assert "has no boxes: put an XML file" in refused(*RECIPE, data=cells / "val/images")
    with pytest.raises(ValueError, match="tiny train has no boxes"):
        detect(preset, source, tmp_path / "v", get_recipe("vit_nano_detect_bccd_128"))
    command = [
        "finetune",
        preset,
        "--data",
        "x",
        "--workdir",
        str(tmp_path / "y"),
        "--recipe",
        RECIPE[1],
    ]
    assert cli.main(command) == 1
    assert "use `mimzoo finetune --task detect`" in capsys.readouterr().err


@pytest.mark.one_backend
def test_recipes_build_what_they_say():
    assert {get_recipe(name).kind for name in list_recipes("detect")} == {"detect"}
    recipe = get_recipe("vit_base_mae_detect_coco_1024")
    assert recipe_from_json(recipe.to_json()) == recipe
    total, warmup = recipe.steps(recipe.num_examples)
    assert (total, warmup, round(recipe.milestone * total)) == (184_375, 250, 163_889)
    nano = get_recipe("vit_nano_detect_bccd_128")
    for architecture in (nano.architecture, recipe.architecture):
        small = dataclasses.replace(nano, image_size=64, architecture=architecture)
        model = build_dense(ObjectDetector, START, small, 3, False, "float32")
        assert model.backbone.image_shape == (64, 64, 3)
        assert model.backbone.window_size == architecture.get("window_size")
        assert (model.min_level, model.head_depth) == (2, 1)
    spared = [v.path for v in model.trainable_variables if matches_any(v, recipe.no_weight_decay)]
    assert [path.split("/")[-2:] for path in spared] == [["positions", "table"]]
    assert model.backbone.blocks[0].attention.relative_positions is not None
