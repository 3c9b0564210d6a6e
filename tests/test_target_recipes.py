"""Recipes that ask for HOG or for a teacher's features."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import json

import pytest
from mimzoo_training import checkpoint, parts
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.recipes import recipe_from_json
from mimzoo_training.recipes.objects import keras_object
from mimzoo_training.runner import pretrain
from runs import _pico, at_step, quiet, recipe, source

from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE, HOGTarget


def towards(recipe, name: str, **config):
    return dataclasses.replace(recipe, length="6it").with_task(target=keras_object(name, **config))


@pytest.mark.one_backend
def test_a_run_towards_hog(recipe, source, tmp_path, quiet):
    place = pretrain(
        towards(recipe, "HOGTarget", cell_size=4, bins=6), source, tmp_path, say=quiet[1]
    )
    task = MAE.from_preset(str(place.preset))
    assert task.target.get_config() == HOGTarget(6, 4).get_config()


@pytest.mark.one_backend
@pytest.mark.parametrize("follows", [False, True], ids=["frozen", "following"])
def test_a_run_towards_features_resumes(recipe, source, tmp_path, monkeypatch, quiet, follows):
    if follows:
        teacher = keras_object("EMA", momentum=0.5, end=0.9, steps=4)
    else:
        teacher = str(tmp_path / "teacher")
        ViTBackbone.from_size("pico", image_shape=(8, 8, 3)).save_to_preset(teacher)
    recipe = towards(recipe, "FeatureTarget", teacher=teacher, layers=(0, 1), dtype="float32")
    assert recipe_from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            pretrain(recipe, source, tmp_path / "run", say=quiet[1], checkpoint_seconds=0.0)
    place = pretrain(recipe, source, tmp_path / "run", say=quiet[1])
    whole = pretrain(recipe, source, tmp_path / "whole", say=quiet[1])
    last = [checkpoint.latest(run.checkpoints) for run in (place, whole)]
    assert last[0].stem[-1] == "6"
    results = [json.loads((run.path / "results.json").read_text())[0] for run in (place, whole)]
    assert results[0]["value"] == pytest.approx(results[1]["value"], rel=1e-5)
    task = MAE.from_preset(str(place.preset))
    assert task.target.layers == [0, 1]
    assert follows or (task.target.name, len(task.target.digest)) == (teacher, 64)
    assert len(list(place.path.glob("reconstruction_*.png"))) > 0


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("HOG", {}, "no class 'mimzoo>HOG'"),
        ("FeatureTarget", {"loss": "smooth_l1"}, r"FeatureTarget: .*'teacher'"),
        ("FeatureTarget", {"teacher": "x", "loss": "l1"}, "smooth_l1, mse, cosine, got 'l1'"),
        ("HOGTarget", {"loss": "cosine"}, "loss must be one of mse, l1, got 'cosine'"),
        ("HOGTarget", {"cells": 4}, r"HOGTarget: .*'cells'"),
    ],
)
def test_what_does_not_fit_has_a_sentence(name, config, message, recipe):
    with pytest.raises(ValueError, match=message):
        parts.build_task(towards(recipe, name, **config))
