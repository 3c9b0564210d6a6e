"""Fine-tuning and probing a preset by the runner."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import json
import signal

import numpy as np
import pytest
from mimzoo_training import loop
from mimzoo_training.finetune import finetune
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.runner import pretrain
from runs import (
    _pico,
    assert_same_state,
    at_step,
    crash,
    preset,
    quiet,
    recipe,
    source,
    tensors,
    tuning,
    whole,
)

from mimzoo.data import ArraySource
from mimzoo.models import ImageClassifier


def test_finetuning_learns_stops_and_goes_on(preset, source, tuning, tmp_path, quiet, monkeypatch):
    _, say = quiet
    tuning = dataclasses.replace(
        tuning,
        base_learning_rate=1.0,
        length="20it",
        mixup=0.2,
        ema_momentum=0.8,
    )
    arguments = {"validation": source, "say": say, "validation_every": 4}
    place = finetune(preset, source, tmp_path / "whole", tuning, **arguments)
    result = json.loads((place.path / "results.json").read_text())[0]
    assert result["metric"] == "accuracy"
    assert result["value"] > 0.9
    with monkeypatch.context() as patch:
        at_step(patch, 13, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted) as stop:
            finetune(preset, source, tmp_path / "parts", tuning, **arguments)
    assert stop.value.exit_code == 143
    stopped = tensors(tmp_path / "parts", 13)
    finetune(preset, source, tmp_path / "parts", tuning, **arguments)
    assert_same_state(tensors(tmp_path / "whole", 20), tensors(tmp_path / "parts", 20))

    # The average is in place at the end, and was not when the run was stopped.
    assert has_averages(tensors(tmp_path / "whole", 20))
    assert not has_averages(stopped)

    name = json.loads((place.preset / "recipe.json").read_text())["recipe"]["name"]
    assert name == "vit_pico_mae_tiny_12it_ft_tiny_8"
    model = ImageClassifier.from_preset(str(place.preset))
    right = model.predict(source.images, verbose=0).argmax(1) == source.labels
    assert right.mean() == pytest.approx(result["value"], abs=1e-5)


def has_averages(state):
    """Whether a weight of the model is equal to its average, which the optimizer keeps."""
    weight = state["model/0000"]
    kept = [v for k, v in state.items() if k.startswith("optimizer") and v.shape == weight.shape]
    return any(np.array_equal(weight, average) for average in kept)


def test_from_scratch_and_few_labels_are_told_by_the_name(preset, source, tuning, tmp_path, quiet):
    lines, say = quiet
    tuning = dataclasses.replace(tuning, batch_size=16, label_smoothing=0.3)
    options = {"num_labels": 8, "from_scratch": True, "validation": source, "say": say}
    place = finetune(preset, source, tmp_path / "w", tuning, **options)
    assert "batches of 8 images, all that there are, in place of 16" in lines
    # Labels are smoothed in training alone.
    row = json.loads((place.path / "log.jsonl").read_text().splitlines()[-1])
    model = ImageClassifier.from_preset(str(place.preset))
    loss = model.evaluate(source.images, source.labels, verbose=0)[0]
    assert row["val_loss"] == pytest.approx(loss, rel=1e-4)
    stored = json.loads((place.preset / "recipe.json").read_text())
    assert stored["recipe"]["name"] == "vit_pico_mae_tiny_12it_scratch_ft_tiny_8_8labels_batch8"
    assert stored["run"]["num_examples"] == 8


def test_a_linear_probe_run(preset, source, tuning, tmp_path, quiet):
    lines, say = quiet
    place = finetune(
        preset, source, tmp_path / "w", tuning, test=source, linear_probe=True, say=say
    )
    result = json.loads((place.path / "results.json").read_text())[0]
    assert result["protocol"] == "linear probe"
    assert result["value"] > 0.9
    finetune(preset, source, place.path, tuning, test=source, linear_probe=True, say=say)
    assert "is finished" in lines[-1]


def test_labels_are_checked_before_anything_is_computed(
    preset, source, tuning, tmp_path, quiet, monkeypatch
):
    monkeypatch.setattr(loop.Trainer, "run", crash)
    with pytest.raises(ValueError, match="label 1 at index 1 is out of range"):
        finetune(preset, source, tmp_path / "w", tuning, num_classes=1, say=quiet[1])
    bare = ArraySource(source.images, name="bare")
    with pytest.raises(ValueError, match="bare has no labels"):
        finetune(preset, bare, tmp_path / "v", tuning, say=quiet[1])
    with pytest.raises(ValueError, match="use `mimzoo finetune`"):
        pretrain(tuning, source, tmp_path / "u", say=quiet[1])
