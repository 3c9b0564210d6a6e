"""A run leaves a preset, can be stopped anywhere, and says what is wrong."""

# ruff: noqa: F401, F811 (imported fixtures)

import csv
import dataclasses
import errno
import json
import shutil
import signal

import keras
import numpy as np
import pytest
from mimzoo_training import checkpoint, files, loop, parts, progress, workdir
from mimzoo_training.distribution import Devices
from mimzoo_training.files import RunError
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.log import COLUMNS, Log
from mimzoo_training.loop import segments
from mimzoo_training.recipes import recipe_from_json
from mimzoo_training.runner import pretrain
from mimzoo_training.workdir import Workdir
from runs import (
    _pico,
    assert_same_state,
    at_step,
    crash,
    log_of,
    quiet,
    recipe,
    source,
    tensors,
    whole,
)
from safetensors.numpy import load_file

from mimzoo.data import ArraySource
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.pretraining import MAE


@pytest.mark.one_backend
def test_segments():
    assert list(segments(0, 10, 5)) == [(0, 2, 5)]
    assert list(segments(3, 12, 5)) == [(0, 1, 2), (1, 2, 5), (2, 3, 2)]
    assert list(segments(10, 12, 5)) == [(2, 3, 2)]
    assert list(segments(6, 8, 5)) == [(1, 2, 2)]
    assert list(segments(10, 10, 5)) == []


@pytest.mark.parametrize("how", ["signal", "crash", "crash at the end of an epoch"])
def test_a_stopped_run_goes_on_exactly(how, whole, recipe, source, tmp_path, monkeypatch, quiet):
    _, say = quiet
    stopping = {} if how == "signal" else {"checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch:
        if how == "signal":
            at_step(patch, 7, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Interrupted, match="same command again") as stop:
                pretrain(recipe, source, tmp_path / "parts", say=say)
            assert stop.value.exit_code == 130
            assert checkpoint.latest(tmp_path / "parts" / "checkpoints").stem[-1] == "7"
        elif how == "crash":
            at_step(patch, 8, crash)
            with pytest.raises(MemoryError):
                pretrain(recipe, source, tmp_path / "parts", say=say, **stopping)
            # On a slow machine there may be one within the epoch as well.
            step = int(checkpoint.latest(tmp_path / "parts" / "checkpoints").stem[5:])
            assert 5 <= step < 8
        else:  # no checkpoint may count an epoch as done that is not in the log
            add = Log.add
            patch.setattr(
                Log,
                "add",
                lambda self, row: crash() if row["step"] == 10 else add(self, row),
            )
            with pytest.raises(MemoryError):
                pretrain(recipe, source, tmp_path / "parts", say=say, **stopping)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Other numbers may have been drawn in the meantime.
    keras.utils.set_random_seed(99)
    pretrain(recipe, source, tmp_path / "parts", say=say)
    assert_same_state(tensors(whole, 12), tensors(tmp_path / "parts", 12))
    for name in ("step", "epoch", "loss", "lr", "images"):
        once, again = ([row[name] for row in log_of(f)] for f in (whole, tmp_path / "parts"))
        np.testing.assert_allclose(once, again, atol=1e-6)
    assert [p.name for p in (tmp_path / "parts").rglob(".*")] == [".lock"]


@pytest.mark.one_backend
def test_what_a_run_leaves(whole, recipe, source):
    names = {p.name for p in whole.iterdir()}
    assert {"recipe.json", "log.csv", "log.jsonl", "curve.png", "preset", "results.json"} <= names
    assert {"reconstruction_1.png", "reconstruction_2.png", "reconstruction_2.4.png"} <= names
    with open(whole / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["5", "10", "12"]
    assert list(rows[0]) == list(COLUMNS)
    assert float(rows[-1]["images"]) == 48
    assert float(rows[-1]["lr"]) == 0
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    for row in rows:
        assert float(row["loss"]) > 0
        assert float(row["val_loss"]) > 0


def test_the_preset_of_a_run(whole, recipe, source):
    preset = whole / "preset"
    assert recipe_from_json(json.loads((preset / "recipe.json").read_text())["recipe"]) == recipe
    result = json.loads((preset / "results.json").read_text())[0]
    assert result["command"] == "mimzoo pretrain x"
    assert result["date"]
    card = (preset / "README.md").read_text()
    assert card.partition("```python\n")[2].startswith("import mimzoo\n")
    last = log_of(whole)[-1]
    task = MAE.from_preset(str(preset))
    loss = parts.masked_loss(task, source, 4)
    assert loss == pytest.approx(result["value"], abs=1e-5)
    assert loss == pytest.approx(last["val_loss"], abs=0.01)
    pixels = keras.Model.predict(task, {"images": np.zeros((1, 8, 8, 3)), "masks": masks(task)})
    assert pixels.shape == (1, 4, 48)
    classifier = ImageClassifier.from_preset(str(preset), num_classes=3)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(classifier.backbone.weights[0]),
        tensors(whole, 12)["model/0000"],
        atol=1e-3,
    )


def masks(task):
    return task.draw(np.arange(1))["masks"]


@pytest.mark.one_backend
def test_tensorboard_reads_the_events(whole):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    events = loader.EventFileLoader(str(next(whole.glob("events.*")))).Load()
    values = {
        (event.step, value.tag): value.tensor.float_val[0]
        for event in events
        for value in event.summary.value
    }
    row = log_of(whole)[-1]
    assert values[12, "val_loss"] == pytest.approx(row["val_loss"])
    assert values[12, "loss"] == pytest.approx(row["loss"])


@pytest.mark.one_backend
def test_a_finished_run_does_nothing(whole, recipe, source, quiet, monkeypatch):
    lines, say = quiet
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    monkeypatch.setattr(loop.Trainer, "run", crash)
    pretrain(recipe, source, whole, validation=source, say=say)
    assert "finished" in lines[-1]
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()} == before


@pytest.mark.one_backend
def test_another_recipe_is_refused_by_its_fields(whole, recipe, source, quiet):
    other = dataclasses.replace(recipe, weight_decay=0.1)
    other = other.with_task(masking={"mask_ratio": 0.75})
    with pytest.raises(RunError, match=r"mask_ratio .*weight_decay \(was 0.05, is 0.1\)"):
        pretrain(other, source, whole, validation=source, say=quiet[1])
    with pytest.raises(RunError, match="precision"):
        pretrain(recipe, source, whole, precision="mixed_bfloat16", say=quiet[1])
    with pytest.raises(RunError, match="validation"):
        pretrain(recipe, source, whole, say=quiet[1])


@pytest.mark.one_backend
def test_a_foreign_folder_is_left_alone(recipe, source, tmp_path, quiet):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


def test_a_loss_that_is_not_finite_names_the_step(recipe, source, tmp_path, quiet, monkeypatch):
    usual = parts.Loader.batch

    def broken(self, step):
        batch = usual(self, step)
        if step == 7:  # the eighth
            batch["images"][:] = np.nan
        return batch

    monkeypatch.setattr(parts.Loader, "batch", broken)
    with pytest.raises(RunError, match="at step 8"):
        pretrain(recipe, source, tmp_path, checkpoint_seconds=0.0, say=quiet[1])
    found = load_file(checkpoint.latest(tmp_path / "checkpoints"))
    assert all(np.isfinite(value).all() for value in found.values())


def test_mixed_precision_leaves_a_float32_preset(recipe, source, tmp_path, quiet):
    recipe = dataclasses.replace(recipe, length="2it")
    place = pretrain(recipe, source, tmp_path, precision="mixed_bfloat16", say=quiet[1])
    task = MAE.from_preset(str(place.preset))
    assert task.backbone.compute_dtype == "float32"
    assert "mixed_bfloat16" in (place.preset / "README.md").read_text()


@pytest.mark.one_backend
def test_data_that_is_not_the_recipes_gets_its_name(recipe, source):
    assert parts.named_for(recipe, source) is recipe
    named = parts.named_for(recipe, source.take(np.arange(12), "my photos train"))
    assert named.name == "vit_pico_mae_my-photos_12it"
    assert named.num_examples == 12


# === Disks ===


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.one_backend
def test_a_full_disk_at_the_start(recipe, source, tmp_path, quiet, monkeypatch):
    monkeypatch.setattr(workdir.os, "fsync", full)
    with pytest.raises(RunError, match=r"work directory.*No space left"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


@pytest.mark.one_backend
def test_too_little_room_is_told_before_training(recipe, source, tmp_path, quiet, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(keras.Model, "fit", crash)
    with pytest.raises(RunError, match="make room"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


@pytest.mark.one_backend
def test_a_disk_that_fills_up_leaves_the_last_checkpoint(
    recipe, source, tmp_path, quiet, monkeypatch
):
    import safetensors.numpy

    usual = safetensors.numpy.save_file
    written = []

    def fills(tensors, path, metadata):
        usual(tensors, path, metadata)
        if written:
            full()
        written.append(path.name.removeprefix(".writing-"))

    monkeypatch.setattr(safetensors.numpy, "save_file", fills)
    with pytest.raises(RunError, match="No space left"):
        pretrain(recipe, source, tmp_path, checkpoint_seconds=0.0, say=quiet[1])
    assert [p.name for p in (tmp_path / "checkpoints").glob("*.safetensors")] == written


@pytest.mark.one_backend
def test_a_file_in_place_of_the_folder(recipe, source, tmp_path, quiet):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(RunError, match="choose another"):
        pretrain(recipe, source, path, say=quiet[1])


def test_only_two_checkpoints_are_kept(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, checkpoint.tensors(model, Devices().whole), {"step": step})
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["step_000000002", "step_000000010"]
    assert checkpoint.load(checkpoint.latest(tmp_path), model) == {"step": 10}
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(RunError, match="another model"):
        checkpoint.load(checkpoint.latest(tmp_path), other)


@pytest.mark.one_backend
def test_a_workdir_writes_whole_files_only(tmp_path):
    place = Workdir(tmp_path)
    (tmp_path / "a.txt").write_text("old")

    def half(path):
        path.write_text("ne")
        full()

    with pytest.raises(RunError):
        files.write_file(tmp_path / "a.txt", half)
    with pytest.raises(RunError):
        files.write_folder(place.preset, lambda folder: half(folder / "b.txt"))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "checkpoints"}


# === Gradients ===


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch keeps gradients")
def test_every_gradient_is_cleared_between_steps(recipe):
    task = parts.build_task(recipe)
    classifier = ImageClassifier.for_backbone(ViTBackbone)(task.backbone, 2)
    for model in (task, task.backbone, classifier):
        listed = {id(parameter) for parameter in model.parameters()}
        assert all(id(v.value) in listed for v in model.trainable_variables)


@pytest.mark.one_backend
def test_an_online_probe_watches_and_changes_nothing(whole, recipe, source, tmp_path, quiet):
    pretrain(recipe, source, tmp_path / "a", validation=source, probe=10, say=quiet[1])
    rows = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert all(0.4 <= row["probe_accuracy"] <= 1 for row in rows if row["val_loss"] is not None)
    # Dark and light images: a linear layer separates them.
    assert rows[-1]["probe_accuracy"] > 0.9
    usual = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [row["loss"] for row in usual]
    bare = ArraySource(source.images, name="bare")
    with pytest.raises(ValueError, match="has no labels to probe with"):
        pretrain(recipe, bare, tmp_path / "b", validation=bare, probe=10, say=quiet[1])


def test_the_time_left_counts_validation(monkeypatch, capsys):
    """Ten steps a second, and nine seconds of validation for each ten steps."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.Progress(40, 8)
    now[0] = 1.0
    shown.update(10, 1.0, 0.5)
    assert shown.left(10) == "  0:03 left"
    shown.pause()
    now[0] = 10.0
    shown.unpause()
    assert shown.left(10) == "  0:30 left"
    now[0] = 11.0
    shown.update(20, 2.0, 0.5)
    assert shown.rate == 10


def test_pictures_are_of_images_that_are_spread_over_the_data(recipe):
    """Sorted by class, the first ones would all be of one."""
    numbers = np.arange(64, dtype="uint8")
    images = np.broadcast_to(numbers[:, None, None, None], (64, 8, 8, 3)).copy()
    shown = parts.some_images(ArraySource(images), recipe, count=4)
    assert shown[:, 0, 0, 0].tolist() == [0, 21, 42, 63]
