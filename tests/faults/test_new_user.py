"""What a new user of the command line meets: backends, trials, the end of fine-tuning, folders."""

# ruff: noqa: F811 (fixtures come by import)

import dataclasses
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from mimzoo_training import cli, image_files
from mimzoo_training.by_class import ByClass
from mimzoo_training.classify import recipe_for
from mimzoo_training.finetune import finetune
from mimzoo_training.image_files import read_images
from mimzoo_training.recipes import get_recipe
from mimzoo_training.runner import pretrain
from PIL import Image
from runs import _pico, preset, quiet, recipe, source, tuning, whole  # noqa: F401

from mimzoo.data import ArraySource
from mimzoo.data.subsets import hold_out, take_subset
from mimzoo.models import SwinV2Backbone, ViTBackbone

one_backend = pytest.mark.one_backend


@one_backend
@pytest.mark.parametrize("command", ["list", "finetune"])
def test_no_library_logs_before_any_command(command, preset, tmp_path):
    arguments = {
        "list": ["vit_nano"],
        "finetune": [preset, "--data", str(tmp_path), "--workdir", str(tmp_path / "w")],
    }[command]
    (tmp_path / "a").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "mimzoo_training.cli", command, *arguments],
        env={**environment, "KERAS_BACKEND": keras.config.backend()},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = ["mimzoo: "] if command == "finetune" else []
    assert [line[:8] for line in done.stderr.splitlines()] == ours


# === A trial is a share of the run ===


def length_of(place):
    return json.loads((place.path / "recipe.json").read_text())["recipe"]["length"]


@one_backend
def test_a_share_is_of_the_images_that_there_are(preset, recipe, source, tuning, tmp_path, quiet):
    # 22 images are 5 steps an epoch, and 8 are 2; the recipe's own set would give 15,000.
    many = {"num_examples": 60_000, "length": "2ep"}
    tuning, recipe = (dataclasses.replace(one, **many) for one in (tuning, recipe))
    arguments = {"scale": 0.5, "say": quiet[1]}
    assert length_of(finetune(preset, source, tmp_path / "a", tuning, **arguments)) == "5it"
    few = finetune(preset, source, tmp_path / "b", tuning, num_labels=8, **arguments)
    assert length_of(few) == "2it"
    assert length_of(pretrain(recipe, source, tmp_path / "c", **arguments)) == "5it"
    assert get_recipe("vit_nano_mae_fmnist_20ep").scaled(0.5).length == "2340it"


# === The end of fine-tuning ===


def test_the_end_says_what_each_class_came_to(preset, source, tuning, tmp_path, quiet):
    names = ("dark", "light", "never")
    three = source.with_classes(names, source.labels)
    place = finetune(preset, three, tmp_path, tuning, validation=three, say=quiet[1])
    result = json.loads(place.results.read_text())[0]
    assert [(row["name"], row["images"]) for row in result["classes"]] == [
        ("dark", 11),
        ("light", 11),
        ("never", 0),
    ]
    printed = quiet[0][-2:]
    assert f"held-out accuracy {result['value']:.4f} on 22 images" in printed[0]
    assert printed[1].splitlines()[0].split() == ["class", "images", "accuracy"]
    assert "no held-out image of 1 classes: never" in printed[1]
    shares = [row["accuracy"] for row in result["classes"][:2]]
    assert result["value"] == pytest.approx(sum(shares) / 2, abs=1e-5)


@one_backend
def test_classes_without_an_image_are_named_before_training(
    preset, source, tuning, tmp_path, quiet, monkeypatch
):
    three = source.with_classes(("dark", "light", "never"), source.labels)
    dark = take_subset(ArraySource(source.images[::2], source.labels[::2], name="held"), count=4)
    held = dark.with_classes(("dark",), dark.labels)
    short = dataclasses.replace(tuning, length="1it")
    finetune(preset, three, tmp_path, short, validation=held, say=quiet[1])
    lines = quiet[0]
    assert lines.index("tiny train has no image of 1 of 3 classes: never") < lines.index(
        next(line for line in lines if " steps of " in line)
    )
    assert sum("has no image of 2 of 3 classes: light, never" in line for line in lines) == 1


# === What follows from the preset ===


@one_backend
@pytest.mark.parametrize(
    ("backbone", "near"),
    [
        (("vit", "tiny"), "vit_nano_mae_finetune_fmnist_28"),
        (("vit", "small"), "vit_base_mae_finetune_in1k_224"),
        (("vit", "nano"), "vit_nano_mae_finetune_fmnist_28"),
        (("swinv2", "tiny"), "swinv2_small_simmim_finetune_in1k_224"),
    ],
)
def test_any_size_gets_a_fine_tuning_recipe(backbone, near, tmp_path):
    family, size = backbone
    cls = {"vit": ViTBackbone, "swinv2": SwinV2Backbone}[family]
    config = cls.from_size(size, image_shape=(64, 64, 3)).get_config()
    stored = {"class_name": cls.__name__, "config": config, "module": cls.__module__}
    stored["registered_name"] = f"mimzoo>{cls.__name__}"
    folder = tmp_path / f"{family}_{size}_mae_photos_100ep"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(stored, default=str))
    recipe, close = recipe_for(str(folder)), get_recipe(near)
    assert recipe.base_learning_rate == close.base_learning_rate
    # Even a size that has a recipe keeps its 64 px, where the recipe has fewer.
    assert (recipe.size, recipe.image_size, recipe.architecture) == (size, 64, {})
    assert (near in recipe.inferred.get("size", "")) == (size != "nano")


@one_backend
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--scale 0", "scale must lie in (0, 1], got 0.0"),
        ("--scale 1.5", "scale must lie in (0, 1], got 1.5"),
        ("--scale nan", "scale must lie in (0, 1], got nan"),
        ("--batch-size 0", "--batch-size must be at least 1, got 0"),
        ("--image-size -3", "--image-size must be at least 1, got -3"),
        ("--learning-rate -1", "--learning-rate must be above 0, got -1"),
        ("--checkpoint-seconds nan", "--checkpoint-seconds must be at least 0"),
    ],
)
@pytest.mark.parametrize(
    "command", ["pretrain vit_nano_mae_fmnist_20ep", "finetune no_such_preset"]
)
def test_numbers_that_cannot_be_are_refused_at_once(command, options, words, tmp_path, capsys):
    given = [
        *command.split(),
        *options.split(),
        "--data",
        "gone/",
        "--workdir",
        str(tmp_path / "w"),
    ]
    assert cli.main(given) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


@one_backend
def test_of_many_classes_the_worst_are_shown():
    count = np.arange(30)
    lines = ByClass([f"c{n}" for n in count], np.full(30, 29), 29 - count).text().splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f"c{n}" for n in range(29, 9, -1)]
    assert lines[-1].startswith("and 10 classes")


@one_backend
def test_each_class_gives_its_share():
    counts = [30, 10, 2, 1]
    labels = np.repeat(np.arange(4), counts)
    source = ArraySource(np.zeros((43, 2, 2, 3), "uint8"), labels, "abcd")
    held, kept = (hold_out(source, 0.1, side) for side in ("validation", "train"))
    assert np.bincount(held.labels, minlength=4).tolist() == [3, 1, 1, 0]
    assert np.bincount(kept.labels).tolist() == [27, 9, 1, 1]
    # One more image moves one other at most, and no image of another class.
    more = hold_out(source.take(np.append(np.arange(43), 42), source.name), 0.1, "validation")
    assert np.bincount(more.labels).tolist() == [3, 1, 1, 1]


# === Images in folders ===


@pytest.fixture
def pictures(tmp_path):
    for name in ("a/1.png", "a/b/2.png", "c/3.png", "4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "c/bad.png").write_bytes(b"no image")
    (tmp_path / "c/notes.txt").write_text("no image either")
    (tmp_path / "empty").mkdir()
    return tmp_path


@one_backend
def test_images_are_found_in_folders(pictures, monkeypatch, capsys):
    monkeypatch.setattr(image_files, "CHUNK", 3)
    chunks = list(read_images([str(pictures / name) for name in ("a", "c", "4.png")]))
    names = [[os.path.relpath(name, pictures) for name in found] for found, _ in chunks]
    assert names == [["a/1.png", "a/b/2.png", "c/3.png"], ["4.png"]]
    assert chunks[0][1][0].shape == (8, 8, 3)
    printed = capsys.readouterr().err.splitlines()
    assert [line.startswith("skipped: ") and "bad.png" in line for line in printed] == [True]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("empty", "is none"), ("c/bad.png", "bad.png"), ("no.png", "no such")],
)
@one_backend
def test_where_there_is_no_image(name, reason, pictures):
    with pytest.raises(ValueError, match=reason):
        list(read_images([str(pictures / name)]))


def test_classify_a_folder(preset, source, tuning, pictures, quiet, capsys):
    place = finetune(preset, source, pictures / "w", tuning, say=quiet[1])
    assert cli.main(["classify", str(place.path), str(pictures / "a"), str(pictures / "c")]) == 0
    printed = capsys.readouterr()
    assert printed.out.count(".png\n") == 3
    assert len(re.findall(r"\d %  (?:dark|light)\n", printed.out)) == 6
    assert "skipped: " in printed.err
    assert cli.main(["classify", str(place.path), str(pictures / "empty")]) == 1
    assert capsys.readouterr().err.startswith("mimzoo: no image at ")
