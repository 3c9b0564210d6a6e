"""`mimzoo doctor` of presets and work directories."""

# ruff: noqa: F811 (fixtures come by import)

import shutil

import pytest
from mimzoo_training import cli, loop
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.runner import pretrain
from runs import _pico, preset, quiet, recipe, source, whole  # noqa: F401

pytestmark = pytest.mark.one_backend


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def doctor(capsys, *arguments):
    code = cli.main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, [" ".join(line.split()) for line in (captured.out + captured.err).splitlines()]


def has(lines, text):
    return any(text in line for line in lines)


def test_a_whole_run_and_its_preset(whole, preset, capsys):
    code, lines = doctor(capsys, whole)
    assert code == 0
    assert lines[-1] == "nothing is wrong"
    assert "step_000000012.safetensors whole" in lines
    assert "step 12 of 12" in lines
    assert has(lines, f"finished: `mimzoo finetune {whole} --data SOURCE")
    code, lines = doctor(capsys, preset)
    assert (code, lines[-1]) == (0, "nothing is wrong")
    assert "licence Apache-2.0" in lines
    assert "kind mim" in lines
    assert has(lines, "model.weights.h5 ")


@pytest.mark.parametrize("name", ["task.weights.h5", "image_converter.json", "config.json"])
def test_what_a_preset_lacks_is_named(name, copy, capsys):
    (copy / "preset" / name).unlink()
    for path in (copy / "preset", copy):
        code, lines = doctor(capsys, path)
        assert code == 1
        assert has(lines, name)


def test_damaged_checkpoints_and_what_to_run(copy, capsys):
    shutil.rmtree(copy / "preset")
    (copy / "checkpoints" / "step_000000012.safetensors").write_bytes(b"")
    code, lines = doctor(capsys, copy)
    assert code == 1
    assert "step_000000012.safetensors damaged" in lines
    assert has(lines, "writes it again")
    (copy / "results.json").unlink()
    assert has(doctor(capsys, copy)[1], f"`mimzoo finish {copy}`")
    for path in (copy / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"")
    assert has(doctor(capsys, copy)[1], "no checkpoint can be used")


def test_a_run_that_has_just_begun(recipe, source, tmp_path, quiet, monkeypatch, capsys):
    def stop(self):
        raise Interrupted("at once", 2)

    monkeypatch.setattr(loop.Trainer, "run", stop)
    with pytest.raises(Interrupted):
        pretrain(recipe, source, tmp_path, say=quiet[1])
    code, lines = doctor(capsys, tmp_path)
    assert code == 0
    assert "step 0 of 12" in lines
    assert has(lines, "no checkpoint yet")


def test_options_of_images_are_refused(whole, capsys):
    code, lines = doctor(capsys, whole, "--sample", "3")
    assert code == 1
    assert has(lines, "--sample and --min-side are for images")
