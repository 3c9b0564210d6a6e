"""What a new user of the command line meets: backends, trials, the end of fine-tuning, folders."""

# ruff: noqa: F811 (fixtures come by import)

import dataclasses
import json
import os
import subprocess
import sys

import keras
import pytest
from mimzoo_training.finetune import finetune
from mimzoo_training.recipes import get_recipe
from mimzoo_training.runner import pretrain
from runs import _pico, preset, quiet, recipe, source, tuning, whole  # noqa: F401

one_backend = pytest.mark.one_backend


@one_backend
@pytest.mark.parametrize("command", ["list", "evaluate", "finetune"])
def test_no_library_logs_before_any_command(command, preset, tmp_path):
    arguments = {
        "list": ["vit_nano"],
        "evaluate": [preset, "--data", str(tmp_path)],
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
    ours = ["mimzoo: "] if command in ("evaluate", "finetune") else []
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
