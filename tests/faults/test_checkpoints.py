"""Checkpoints that are damaged, diverged or half written."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import os
import shutil

import numpy as np
import pytest
from mimzoo_training import checkpoint, export, files
from mimzoo_training.files import RunError
from mimzoo_training.finetune import finetune
from mimzoo_training.runner import pretrain
from runs import _pico, assert_same_state, preset, quiet, recipe, source, tensors, tuning, whole
from safetensors.numpy import load_file, save_file

LAST, BEFORE = "step_000000012.safetensors", "step_000000010.safetensors"


@pytest.fixture
def unfinished(whole, tmp_path):
    """A run that is trained to the end, with the checkpoints of steps 10 and 12, no results."""
    folder = tmp_path / "w"
    shutil.copytree(whole, folder)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "preset")
    names = {path.name for path in (folder / "checkpoints").glob("step_*")}
    assert LAST in names
    if BEFORE not in names:
        pytest.fail(f"expected a checkpoint at the end of the second epoch, found {names}")
    return folder


def zeros(data):
    return data[:-4000] + bytes(4000)


def flipped(data):
    return data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:]


def truncated(data):
    return data[: len(data) // 2]


@pytest.mark.one_backend
@pytest.mark.parametrize("damage", [zeros, flipped, truncated, lambda data: b""])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_taken(
    damage, unfinished, whole, recipe, source, capsys, quiet
):
    path = unfinished / "checkpoints" / LAST
    path.write_bytes(damage(path.read_bytes()))
    pretrain(recipe, source, unfinished, validation=source, say=quiet[1])
    out = capsys.readouterr().out
    assert f"{path} is damaged" in out
    assert "resumed at step 10 of 12" in out
    assert_same_state(tensors(whole, 12), tensors(unfinished, 12))
    assert (unfinished / "preset" / "README.md").is_file()


@pytest.mark.one_backend
def test_where_all_are_damaged_nothing_is_started_anew(unfinished, recipe, source, quiet):
    for path in (unfinished / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"no checkpoint in .*checkpoints can be used: remove"):
        pretrain(recipe, source, unfinished, validation=source, say=quiet[1])


@pytest.mark.one_backend
def test_files_without_a_digest_load_but_only_if_finite(
    unfinished, recipe, source, capsys, quiet, monkeypatch
):
    monkeypatch.setattr(checkpoint, "missing_bytes", lambda *_: pytest.fail("trained again"))
    path = unfinished / "checkpoints" / LAST
    state, values = checkpoint.read(path)
    old = {"mimzoo": checkpoint.json.dumps(state)}
    save_file(values, path, metadata=old)
    pretrain(recipe, source, unfinished, validation=source, say=quiet[1])
    assert "resumed at step 12 of 12" in capsys.readouterr().out
    first = next(iter(values))
    values[first] = np.full_like(values[first], np.nan)
    save_file(values, path, metadata=old)
    with pytest.raises(checkpoint.DamagedError, match=f"not finite .{first}"):
        checkpoint.read(path)


@pytest.mark.one_backend
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_that_is_not_finite_is_saved(value, tmp_path):
    fine = {"model/0000": np.ones((2, 2), "float32"), "optimizer/0000": np.ones((), "float32")}
    checkpoint.save(tmp_path, fine, {"step": 1})
    broken = fine | {"optimizer/0000": np.array(value, "float32")}
    with pytest.raises(RunError, match=r"optimizer/0000 is not finite after step 2.*step_0+1\."):
        checkpoint.save(tmp_path, broken, {"step": 2}, best=True)
    assert [path.stem for path in tmp_path.iterdir()] == ["step_000000001"]


def test_a_run_that_diverges_keeps_its_last_finite_checkpoint(
    recipe, source, tmp_path, capsys, quiet
):
    wild = dataclasses.replace(recipe, base_learning_rate=1e25, warmup="6it")
    place, lines = tmp_path / "w", []
    for _ in range(2):
        with pytest.raises(RunError, match=r"not finite|is (nan|inf)"):
            pretrain(wild, source, place, checkpoint_seconds=0.0, say=quiet[1])
        kept = list((place / "checkpoints").glob("*.safetensors"))
        for path in kept:
            assert all(np.isfinite(value).all() for value in load_file(path).values())
        lines.append(capsys.readouterr().out)
    assert ("resumed at step" in lines[1]) == bool(kept)
    assert not (place / "preset").exists()


def test_fine_tuning_that_diverges_leaves_no_preset(preset, tuning, source, tmp_path, quiet):
    # The loss is read before the step that breaks the weights.
    wild = dataclasses.replace(tuning, base_learning_rate=1e38, length="1it")
    with pytest.raises(RunError, match=r"not finite|is (nan|inf)"):
        finetune(preset, source, tmp_path / "w", wild, validation=source, say=quiet[1])
    assert not (tmp_path / "w" / "preset").exists()
    assert not list((tmp_path / "w" / "checkpoints").glob("*.safetensors"))


@pytest.mark.one_backend
def test_weights_that_the_stored_type_cannot_hold_are_refused(recipe):
    from mimzoo_training import parts

    task = parts.build_task(recipe)
    weights = [np.full(v.shape, 1e5, "float32") for v in task.weights]
    with pytest.raises(RunError, match=r"reaches 1e\+05, which float16 cannot hold"):
        export.set_weights(task, weights, "float16")


@pytest.mark.one_backend
def test_files_are_on_the_disk_before_they_are_renamed(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace

    def synced(opened):
        calls.append(("sync", os.readlink(f"/proc/self/fd/{opened}").rpartition("/")[2]))
        sync(opened)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append(("rename", a.name)), replace(a, b))
    )
    folder = tmp_path / "here"
    folder.mkdir()
    files.write_file(folder / "a.txt", lambda path: path.write_text("a"))
    assert calls == [("sync", ".writing-a.txt"), ("rename", ".writing-a.txt"), ("sync", "here")]
    for _ in range(2):
        calls.clear()
        files.write_folder(folder / "b", lambda path: (path / "c.txt").write_text("c"))
        before = calls[: calls.index(("rename", ".writing-b"))]
        assert {("sync", "c.txt"), ("sync", ".writing-b")} <= set(before)
        assert calls[-1] == ("sync", "here")
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b"]


@pytest.mark.one_backend
def test_what_killed_writers_left_is_removed(unfinished, recipe, source, quiet):
    places = (unfinished, unfinished / "checkpoints")
    for folder in places:
        (folder / ".tmpAb12").write_bytes(b"a checkpoint of safetensors")
        (folder / ".writing-log.csv").write_bytes(b"half a file")
        (folder / ".writing-preset").mkdir(exist_ok=True)
        (folder / ".writing-preset" / "config.json").write_bytes(b"{}")
        (folder / ".probe-x").write_bytes(b"")
    pretrain(recipe, source, unfinished, validation=source, say=quiet[1])
    assert [path.name for path in unfinished.rglob(".*")] == [".lock"]
    new = unfinished.parent / "killed at once"
    new.mkdir()
    (new / ".writing-recipe.json").write_bytes(b"{")
    pretrain(dataclasses.replace(recipe, length="1it"), source, new, say=quiet[1])
