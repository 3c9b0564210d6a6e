"""The end of a run: its preset, what is missing or damaged there, and runs that were stopped."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from mimzoo_training import checkpoint, cli, files, measure
from mimzoo_training.files import RunError
from mimzoo_training.finetune import finetune
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.runner import pretrain
from mimzoo_training.workdir import Workdir
from runs import (
    _pico,
    assert_same_state,
    at_step,
    crash,
    log_of,
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
from mimzoo.pretraining import MAE

sys.path.insert(0, str(Path(__file__).parents[2]))

one_backend = pytest.mark.one_backend


@pytest.fixture
def copy(whole, tmp_path):
    """A finished run that a test may change."""
    shutil.copytree(whole, tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture
def stopped(recipe, source, tmp_path, quiet, monkeypatch):
    """A run that was stopped at step 7, with a validation after step 5."""
    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            pretrain(recipe, source, tmp_path / "s", validation=source, say=quiet[1])
    return tmp_path / "s"


# === The preset at the end ===


@one_backend
@pytest.mark.parametrize("name", ["preset", "results.json"])
def test_what_is_missing_of_the_end_is_written_again(
    name, copy, whole, recipe, source, quiet, monkeypatch
):
    gone = copy / name
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    monkeypatch.setattr(keras.Model, "fit", crash)
    pretrain(recipe, source, copy, validation=source, command="mimzoo pretrain x", say=quiet[1])
    assert {p.name for p in (copy / "preset").iterdir()} == {
        p.name for p in (whole / "preset").iterdir()
    }
    for file in ("preset/recipe.json", "preset/curve.csv", "results.json"):
        if file != "results.json":
            assert (copy / file).read_text() == (whole / file).read_text()
    (one,), (other,) = (json.loads((f / "results.json").read_text()) for f in (whole, copy))
    assert one["value"] == other["value"]
    assert one["training_seconds"] == other["training_seconds"]
    old, new = (MAE.from_preset(str(f / "preset")) for f in (whole, copy))
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@one_backend
def test_what_is_damaged_at_the_end_is_written_again(
    copy, whole, recipe, source, quiet, monkeypatch
):
    for name, content in (
        ("results.json", "null"),
        ("preset/results.json", "{"),
        ("preset/recipe.json", ""),
        ("preset/task.json", "{}"),
        ("preset/manifest.json", "[]"),
        ("preset/model.weights.h5", "x"),
    ):
        before = (copy / name).read_bytes()
        (copy / name).write_text(content)
        assert not Workdir(copy).finished
        (copy / name).write_bytes(before)
    assert Workdir(copy).finished
    (copy / name).write_text(content)
    monkeypatch.setattr(keras.Model, "fit", crash)
    pretrain(recipe, source, copy, validation=source, command="mimzoo pretrain x", say=quiet[1])
    assert Workdir(copy).finished
    for file in ("model.weights.h5", "recipe.json"):
        assert (copy / "preset" / file).read_bytes() == (whole / "preset" / file).read_bytes()


@one_backend
def test_a_checkpoint_that_is_no_file_is_skipped(copy, recipe, source, quiet, capsys):
    newest = checkpoint.latest(copy / "checkpoints")
    newest.unlink()
    newest.symlink_to("/nowhere")
    shutil.rmtree(copy / "preset")
    pretrain(recipe, source, copy, validation=source, say=quiet[1])
    assert "is no file, or a link to none; it is skipped" in capsys.readouterr().out
    assert checkpoint.latest(copy / "checkpoints").is_file()


@one_backend
def test_a_run_resumes_on_the_very_same_inputs_only(
    copy, recipe, tuning, preset, source, tmp_path, quiet
):
    """Validation images, names of classes, and the weights that fine-tuning began with."""
    part = ArraySource(source.images[:8], source.labels[:8], source.class_names, source.name)
    with pytest.raises(RunError, match="these differ: validation_fingerprint"):
        pretrain(recipe, source, copy, validation=part, say=quiet[1])
    folder = tmp_path / "ft"
    finetune(preset, source, folder, tuning, validation=source, say=quiet[1])
    other = source.with_classes(("light", "dark"), source.labels)
    with pytest.raises(RunError, match="these differ: classes"):
        finetune(preset, other, folder, tuning, validation=other, say=quiet[1])
    again = tmp_path / "again" / "preset"
    model = MAE.from_preset(preset)
    model.backbone.norm.gamma.assign(model.backbone.norm.gamma + 1)
    model.save_to_preset(again)
    shutil.copy(Path(preset) / "recipe.json", again)
    with pytest.raises(RunError, match="these differ: start_weights"):
        finetune(str(again), source, folder, tuning, validation=source, say=quiet[1])


@one_backend
def test_a_disk_that_is_full_at_the_export_is_one_sentence(
    copy, recipe, source, quiet, monkeypatch, capsys
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.rmtree(copy / "preset")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        # HDF5 would end the process.
        patch.setattr(MAE, "save_to_preset", lambda *_: os._exit(139))
        with pytest.raises(RunError, match=r"cannot write .*preset: No space left.*again"):
            pretrain(recipe, source, copy, validation=source, say=quiet[1])
        usage = type("Usage", (), {"free": 10_000})
        patch.setattr(files.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(RunError, match=r"preset: it takes \d+\.\d MB, and the disk has fewer"):
            pretrain(recipe, source, copy, validation=source, say=quiet[1])
    assert not list(copy.glob(".writing-*"))
    pretrain(recipe, source, copy, validation=source, say=quiet[1])
    assert Workdir(copy).finished


@one_backend
def test_a_run_needs_room_for_what_is_missing_only(copy, recipe, source, quiet, monkeypatch):
    folder = copy / "checkpoints"
    model = checkpoint.build_model(folder)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    whole_run = checkpoint.missing_bytes(model, copy / "nothing here")
    # Of the four that there may be, two and the best are there.
    assert checkpoint.missing_bytes(model, folder) == pytest.approx(whole_run / 4, rel=0.1)
    shutil.rmtree(copy / "preset")
    free = checkpoint.preset_bytes(model) + 1000
    assert free < whole_run + checkpoint.preset_bytes(model)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    pretrain(recipe, source, copy, validation=source, say=quiet[1])
    assert Workdir(copy).finished


# === A stopped run ===


def test_finish_makes_the_preset_of_the_best_so_far(stopped, recipe, source, quiet, capsys):
    with pytest.raises(RunError, match=rf"mimzoo finish {stopped}"):
        cli.importlib.import_module("mimzoo_training.preset_commands").preset_folder(str(stopped))
    assert cli.main(["finish", str(stopped)]) == 0
    out = capsys.readouterr().out
    assert "is the model of step 5, masked loss, masks of seed 0" in out
    (result,) = json.loads((stopped / "preset" / "results.json").read_text())
    row = next(row for row in log_of(stopped) if row["step"] == 5)
    assert (result["step"], result["value"]) == (5, pytest.approx(row["val_loss"], abs=1e-6))
    task = MAE.from_preset(str(stopped / "preset"))
    best = checkpoint.read(stopped / "checkpoints" / checkpoint.BEST)[1]
    assert_holds(task, best)
    # The run is not over.
    pretrain(recipe, source, stopped, validation=source, say=quiet[1])
    assert "resumed at step 7 of 12" in capsys.readouterr().out
    assert "step" not in json.loads((stopped / "preset" / "results.json").read_text())[0]
    assert cli.main(["finish", str(stopped)]) == 0
    assert "is finished" in capsys.readouterr().out


@one_backend
def test_finish_of_fine_tuning_in_low_precision(
    preset, tuning, source, tmp_path, monkeypatch, quiet, capsys
):
    at_step(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGTERM))
    longer = dataclasses.replace(tuning, length="9it")
    options = {"precision": "mixed_bfloat16", "say": quiet[1]}
    with pytest.raises(Interrupted):
        finetune(preset, source, tmp_path / "w", longer, **options)
    assert cli.main(["finish", str(tmp_path / "w")]) == 0
    assert "is the model of step 3" in capsys.readouterr().out
    model = ImageClassifier.from_preset(str(tmp_path / "w" / "preset"))
    assert model.backbone.compute_dtype == "float32"
    assert model.class_names == ("dark", "light")
    saved = checkpoint.read(checkpoint.latest(tmp_path / "w" / "checkpoints"))[1]
    assert_holds(model, saved)


def assert_holds(model, saved):
    """A model loaded from a preset has the weights of a checkpoint, rounded to float16."""
    weights = {id(v) for v in model.weights}
    for name, variable in checkpoint.variables(model, optimizer=False).items():
        if id(variable) in weights:
            value = keras.ops.convert_to_numpy(variable.value)
            np.testing.assert_allclose(value, saved[name], atol=1e-3)


def test_finish_names_what_it_needs(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    for folder, words in (("new", "holds no checkpoint"), ("photos", "begun by no run")):
        assert cli.main(["finish", str(tmp_path / folder)]) == 1
        assert words in capsys.readouterr().err


@one_backend
@pytest.mark.parametrize("state", ["stopped", "copy"])
def test_a_greater_length_is_taken(state, recipe, source, request, quiet, capsys):
    folder = request.getfixturevalue(state)
    lines, say = quiet
    with pytest.raises(RunError, match="length"):
        pretrain(recipe.with_length("6it"), source, folder, validation=source, say=say)
    longer = recipe.with_length("20it")
    pretrain(longer, source, folder, validation=source, say=say)
    step = 7 if state == "stopped" else 12
    assert f"the length is 20it instead of 12it from step {step} on" in " ".join(lines)
    assert f"resumed at step {step} of 20" in capsys.readouterr().out
    rows = log_of(folder)
    assert rows[-1]["step"] == 20
    assert rows[-1]["lr"] == 0
    for path in (folder / "recipe.json", folder / "preset" / "recipe.json"):
        stored = json.loads(path.read_text())
        assert stored["run"]["extended"] == [{"step": step, "from": "12it", "to": "20it"}]
        assert stored["recipe"]["length"] == "20it"
    pretrain(longer, source, folder, validation=source, say=say)
    assert "is finished" in lines[-1]


# === Damaged files ===


@one_backend
@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", "\udcff"])
def test_damaged_json_is_named(text, copy, recipe, source, quiet):
    for name, read in (
        ("recipe.json", lambda: pretrain(recipe, source, copy, validation=source, say=quiet[1])),
        ("preset/task.json", lambda: measure.load_task(str(copy / "preset"))),
    ):
        path = copy / name
        whole = path.read_bytes()
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises((RunError, ValueError), match=rf"{path} is damaged"):
            read()
        path.write_bytes(whole)


@one_backend
def test_a_damaged_log_is_named_and_its_removal_helps(copy, whole, recipe, source, quiet):
    (copy / "results.json").unlink()
    path = copy / "log.jsonl"
    rows = path.read_text().splitlines()
    for line in ("{", "null", "{}", "[1]", "\0\0\0"):
        path.write_text("\n".join([rows[0], line, *rows[2:]]))
        with pytest.raises(RunError, match=rf"{path} is damaged in line 2: remove the file"):
            pretrain(recipe, source, copy, validation=source, say=quiet[1])
    path.unlink()
    pretrain(recipe, source, copy, validation=source, say=quiet[1])
    assert_same_state(tensors(whole, 12), tensors(copy, 12))


@one_backend
@pytest.mark.parametrize(
    ("manifest", "words"),
    [(True, r"model\.weights\.h5 in {} has 1000 bytes, its manifest"), (False, "{}.* cut off")],
)
def test_damaged_weights_are_named(manifest, words, copy, tuning, source, tmp_path, quiet):
    preset = str(copy / "preset")
    path = copy / "preset" / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:1000])
    if not manifest:
        (copy / "preset" / "manifest.json").unlink()
    with pytest.raises((RunError, ValueError), match=words.format(preset)):
        measure.load_task(preset)
    with pytest.raises((RunError, ValueError), match=words.format(preset)):
        finetune(preset, source, tmp_path / "t", tuning, say=quiet[1])
