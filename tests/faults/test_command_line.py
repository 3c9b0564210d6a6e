"""Commands: wrong options, folders and damaged files are reported before the work starts."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import photos, says  # noqa: F401 (a fixture)
from mimzoo_training.cli import main
from mimzoo_training.files import RunError
from mimzoo_training.study import run_study
from PIL import Image
from shard_files import png

from mimzoo.data import open_source
from mimzoo.hub import resolve

pytestmark = pytest.mark.one_backend

PRESET = "vit_nano_mae_fmnist_20ep"
RECIPE = "vit_nano_mae_fmnist_2it"


@pytest.fixture
def preset(tmp_path):
    return shutil.copytree(resolve(PRESET), tmp_path / "preset")


def test_arguments_need_not_be_utf_8(tmp_path, photos, capsys):  # noqa: F811
    strange = Path(os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9"))
    shutil.copytree(photos, strange)
    arguments = ["pretrain", RECIPE, "--data", str(strange), "--batch-size", "8", "--workdir"]
    assert main([*arguments, str(tmp_path / "run")]) == 0
    assert b"caf\\\\xe9" in (tmp_path / "run" / "results.json").read_bytes()
    assert main([*arguments, str(tmp_path / strange.name / "run")]) == 1
    assert "whose name is UTF-8" in capsys.readouterr().err


def test_a_damaged_preset_is_told_before_training(preset, tmp_path, photos, capsys):  # noqa: F811
    (preset / "results.json").write_text('[{"metric": "accuracy", "value": 1}]')
    place = tmp_path / "run"
    arguments = ["finetune", str(preset), "--data", str(photos), "--length", "2it"]
    says(capsys, *arguments, "--workdir", str(place))
    assert not (place / "recipe.json").exists()


@pytest.mark.parametrize(
    "recipe",
    ['{"recipe": [], "run": {}}', '{"recipe": {"crop_fraction": 7}, "run": {}}', "[" * 9999],
)
def test_a_damaged_recipe_is_named(recipe, preset, photos, capsys):  # noqa: F811
    (preset / "recipe.json").write_text(recipe)
    printed = says(capsys, "evaluate", str(preset), "--data", str(photos))
    assert "recipe.json is damaged" in printed


def test_published_results_take_no_folder_from_others(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        run_study("simmim_data_scaling", None, tmp_path, published=True)
    assert (tmp_path / "report.md").read_text() == "mine"
    with pytest.raises(ValueError, match="--only has no effect with --published"):
        run_study("simmim_data_scaling", None, tmp_path / "new", published=True, only="x")


def test_label_maps_are_no_images_of_a_probe(tmp_path, capsys):
    for number in range(4):
        for name, mode in (("images", "RGB"), ("labels", "L")):
            path = tmp_path / "seg" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((16, 16), number % 2, "uint8")
            Image.fromarray(pixels).convert(mode).save(path)
    data = str(tmp_path / "seg")
    for command in ("probe", "evaluate"):
        assert "a label map beside each image" in says(capsys, command, PRESET, "--data", data)


def test_a_run_stays_out_of_all_its_images(tmp_path, photos, capsys):  # noqa: F811
    validation = shutil.copytree(photos, tmp_path / "validation")
    arguments = ["pretrain", RECIPE, "--data", str(photos), "--batch-size", "8"]
    arguments += ["--validation", str(validation), "--workdir", str(validation / "run")]
    assert main(arguments) == 1
    assert "lies inside" in capsys.readouterr().err


def test_a_name_that_is_a_folder_too_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        path = tmp_path / "embedded" / name / "0.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(png(0))
    with pytest.raises(ValueError, match=r"write \./embedded for the folder"):
        open_source("embedded")
    assert len(open_source("./embedded", split="all")) == 2


def test_options_are_given_once_and_to_what_has_them(tmp_path, photos, capsys):  # noqa: F811
    data = ["--data", str(photos)]
    for arguments, printed in (
        (["evaluate", PRESET, *data, *data], "--data is given twice"),
        (["probe", PRESET, *data, "--split", "train"], "invalid choice"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert printed in capsys.readouterr().err
    place = ["--workdir", str(tmp_path / "run")]
    recipe = "vit_nano_mae_finetune_fmnist_28"
    printed = says(capsys, "pretrain", recipe, *data, *place, "--mask-ratio", "0.5")
    assert "has no task" in printed
    printed = says(capsys, "probe", PRESET, *data, "--kinds", "probe", "--neighbours", "7")
    assert "no effect without kNN" in printed
    assert "no such folder" in says(capsys, "finish", str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_system_folders_are_no_classes(tmp_path):
    for place in ("a/0.png", "b/0.png", "@eaDir/a/0.png", "$RECYCLE.BIN/0.png"):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.write_bytes(png(0))
    assert open_source(str(tmp_path), split="all").class_names == ("a", "b")
