"""Recipes that ask for HOG or for a teacher's features."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import json

import pytest
from mimzoo_training import checkpoint
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.recipes import recipe_from_json
from mimzoo_training.recipes.targets import TARGETS
from mimzoo_training.runner import pretrain
from runs import _pico, at_step, quiet, recipe, source

from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE, FeatureTarget, HOGTarget


def test_options_are_those_of_the_targets():
    for name, target in (("hog", HOGTarget()), ("features", FeatureTarget("x"))):
        assert set(TARGETS[name][1]) == set(target.get_config()) - {"loss"}


@pytest.mark.one_backend
def test_a_run_towards_hog(recipe, source, tmp_path, quiet):
    options = {"cell_size": 4, "bins": 6}
    recipe = dataclasses.replace(recipe, target="hog", target_options=options, length="6it")
    place = pretrain(recipe, source, tmp_path, say=quiet[1])
    task = MAE.from_preset(str(place.preset))
    assert task.target.get_config() == HOGTarget(6, 4).get_config()


@pytest.mark.one_backend
def test_a_run_towards_features_goes_on(recipe, source, tmp_path, monkeypatch, quiet):
    teacher = str(tmp_path / "teacher")
    ViTBackbone.from_size("pico", image_shape=(8, 8, 3)).save_to_preset(teacher)
    options = {"teacher": teacher, "layers": (0, 1), "dtype": "float32"}
    recipe = dataclasses.replace(
        recipe, target="features", loss="smooth_l1", target_options=options, length="6it"
    )
    assert recipe_from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            pretrain(recipe, source, tmp_path / "run", say=quiet[1], checkpoint_seconds=0.0)
    place = pretrain(recipe, source, tmp_path / "run", say=quiet[1])
    assert checkpoint.latest(place.checkpoints).stem[-1] == "6"
    task = MAE.from_preset(str(place.preset))
    assert (task.target.name, task.target.layers) == (teacher, [0, 1])
    assert len(task.target.digest) == 64
    assert len(list(place.path.glob("reconstruction_*.png"))) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "HOG"}, "target must be one of .*, hog, features"),
        ({"target": "features", "loss": "smooth_l1"}, "needs the name"),
        ({"target": "features", "loss": "l1"}, "has the losses smooth_l1, mse, cosine"),
        ({"target": "hog", "loss": "cosine"}, "has the losses mse, l1, not 'cosine'"),
        ({"target": "hog", "target_options": {"cells": 4}}, "no option cells; it has bins"),
        ({"target": "pixels", "target_options": {"teacher": "x"}}, "no option teacher; .* none"),
    ],
)
def test_what_does_not_go_together_is_told(changes, message, recipe):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe, **changes)
