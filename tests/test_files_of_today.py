"""Recipes, work directories and presets that mimzoo 0.1 wrote are still read."""

# ruff: noqa: F401, F811 (imported fixtures)

import json
import shutil
from pathlib import Path

import pytest
from mimzoo_training.recipes import recipe_from_json
from mimzoo_training.runner import pretrain
from runs import _pico, quiet, source

from mimzoo.pretraining import MAE

TODAY = Path(__file__).parent / "files_of_today"


@pytest.mark.one_backend
def test_a_work_directory_resumes(source, tmp_path, quiet, capsys):
    """A run that was stopped at step 7 of 12 ends with the weights that it would have had."""
    shutil.copytree(TODAY / "workdir", tmp_path / "w")
    stored = json.loads((tmp_path / "w" / "recipe.json").read_text())
    assert "task" not in stored["recipe"]
    recipe = recipe_from_json(stored["recipe"])
    place = pretrain(recipe, source, tmp_path / "w", validation=source, say=quiet[1])
    assert "resumed at step 7 of 12" in capsys.readouterr().out
    rows = [json.loads(line) for line in (place.path / "log.jsonl").read_text().splitlines()]
    whole = json.loads((TODAY / "whole.json").read_text())
    assert rows[-1]["step"] == 12
    assert rows[-1]["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert rows[-1]["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-5)
    task = MAE.from_preset(str(place.preset))
    assert task.decoder.embed_dim == 16
