"""The command line: what it does, and the one sentence it says where it cannot."""

# ruff: noqa: F401, F811 (imported fixtures)

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import pytest
from commands import RECIPE, photos, says
from mimzoo_training import backend, cli

from mimzoo.hub.catalogue import presets_folder

# Nothing here differs between the backends; `test_commands.py` runs on each.
pytestmark = pytest.mark.one_backend


def test_help_is_quick():
    code = "import sys, mimzoo_training.cli as c; c.build_parser(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"keras", "numpy", "rich", "mimzoo"} & set(loaded)


def test_the_library_never_imports_the_training_package():
    code = (
        "import sys, mimzoo, mimzoo.data.loader, mimzoo.downstream, mimzoo.pretraining, "
        "mimzoo.optimizers, mimzoo.hub; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [name for name in loaded if name.startswith("mimzoo_training")]


def test_usage_errors_end_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["pretrain", RECIPE])
    assert stop.value.code == 2
    assert "--data" in capsys.readouterr().err


def test_list_is_an_aligned_table(capsys):
    assert cli.main(["list", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    preset = next(line for line in lines if line.startswith("vit_base_mae_in1k_1600ep"))
    assert "83.6% (published)" in preset
    heading = lines[lines.index("Downloaded when first loaded") + 1]
    assert heading.index("licence") == preset.index("CC-BY-NC-4.0")
    assert any(line.startswith("vit_huge_mae_finetune_in1k_224") for line in lines)
    features = next(line for line in lines if line.startswith("vit_nano_mae-features"))
    assert "linear probe on 1,000 labels, mean-pooled features: 78.0% (measured)" in features
    assert any("at 224 px: 83.7% (published)" in line for line in lines)  # of 83.664
    assert cli.main(["list", "swinv2_giant"]) == 0
    chosen = capsys.readouterr().out.splitlines()
    assert len([line for line in chosen if line.startswith("swinv2_giant_simmim_in22k")]) == 9
    assert not [line for line in chosen if line.startswith("vit_")]
    assert cli.main(["list", "resnet"]) == 1


def test_info_shows_a_preset_and_a_recipe(capsys):
    assert cli.main(["info", "vit_base_mae_in1k_1600ep"]) == 0
    out = capsys.readouterr().out
    assert "README.md" in out
    assert "base_learning_rate" in out
    assert cli.main(["info", "vit_nano_mae_finetune_fmnist_28"]) == 0
    assert "layer_decay" in capsys.readouterr().out


# === Errors ===


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--mask-ratio", "0"], "mask_ratio must lie strictly between 0 and 1"),
        (["--mask-ratio", "1"], "mask_ratio must lie strictly between 0 and 1"),
        (["--mask-ratio", "1.5"], "mask_ratio must lie strictly between 0 and 1"),
        (["--mask-ratio", "0.99"], "leaves 0 visible"),
        (["--image-size", "30"], "patch"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--batch-size", "5000"], "5000"),
        (["--length", "soon"], "'soon' is no length"),
        (["--validation-every", "0"], "--validation-every"),
    ],
)
def test_pretrain_says_what_is_wrong(arguments, printed, tmp_path, capsys):
    where = ["--data", "embedded", "--workdir", tmp_path / "w"]
    assert printed in says(capsys, "pretrain", RECIPE, *where, *arguments)


def test_unknown_names_get_the_nearest(tmp_path, capsys):
    where = ["--data", "embedded", "--workdir", tmp_path / "w"]
    assert RECIPE in says(capsys, "pretrain", "vit_nano_mae_fmnst_20ep", *where)
    assert "vit_base_mae_in1k" in says(capsys, "finetune", "vit_bse_mae_in1k_1600ep", *where)
    assert "vit_base_mae_in1k" in says(capsys, "info", "vit_bse_mae_in1k_1600ep")
    assert "use `mimzoo finetune`" in says(
        capsys, "pretrain", "vit_nano_mae_finetune_fmnist_28", *where
    )
    assert "mimzoo pretrain" in says(capsys, "finetune", "vit_base_mae_coyo1m_250k", *where)


def test_data_that_is_not_there(tmp_path, capsys):
    def pretrain(data):
        return says(capsys, "pretrain", RECIPE, "--data", data, "--workdir", tmp_path / "w")

    (tmp_path / "empty").mkdir()
    assert "no images in" in pretrain(tmp_path / "empty")
    assert "no folder or .tar file" in pretrain(tmp_path / "missing")
    assert "unknown source" in pretrain("imagenet")


def test_a_folder_of_unreadable_files(tmp_path, capsys):
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes(b"no image")
    printed = says(
        capsys,
        *("pretrain", RECIPE, "--data", folder, "--workdir", tmp_path / "w"),
        *("--batch-size", 4, "--length", "2it"),
    )
    assert ".jpg" in printed


def test_images_left_out_are_not_called_unreadable(photos, tmp_path):
    """Images that were found broken are counted; other warnings stand for themselves."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "dark" / "z.heic").write_bytes(b"no image")
    next((folder / "dark").glob("*.png")).write_bytes(b"no image")
    command = [sys.executable, "-m", "mimzoo_training.cli", "pretrain", RECIPE, "--data", folder]
    options = ["--workdir", tmp_path / "w", "--batch-size", "4", "--length", "12it"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 image could not be read: corrupt image" in done.stderr
    assert "1 images are left out: dark/z.heic" in done.stderr


def test_a_run_that_is_not_finished_has_no_preset(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    assert "not finished" in says(capsys, "evaluate", tmp_path, "--data", "embedded")


def test_a_work_directory_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot write to the work directory" in says(
        capsys, "pretrain", RECIPE, "--data", "embedded", "--workdir", tmp_path / "file" / "w"
    )


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux",
    reason="mounting a small disk needs root on Linux",
)
def test_a_disk_that_is_full(tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        where = ["--data", "embedded", "--workdir", disk / "w"]
        assert "make room" in says(capsys, "pretrain", RECIPE, *where)
        fill(disk / "filler")
        where = ["--data", "embedded", "--workdir", disk / "v"]
        assert "No space left" in says(capsys, "pretrain", RECIPE, *where)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(ValueError, match="unknown"):
        cli.main(["info", "nothing", "--debug"])


# === Backends ===


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """No backend is asked for, and Keras has no settings."""
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        None,
        "{",
        # As Keras writes it at its first import, whatever the backend.
        '{"floatx": "float32", "epsilon": 1e-07, "backend": "tensorflow", '
        '"image_data_format": "channels_last"}',
    ],
)
@pytest.mark.parametrize("installed", [["torch", "tensorflow"], ["jax", "tensorflow"]])
def test_the_backend_that_is_installed_is_taken(settings, installed, unset, monkeypatch):
    if settings:
        (unset / "keras.json").write_text(settings)
    monkeypatch.setattr(backend, "installed", lambda: installed)
    assert f"using the {installed[0]} backend: choose another" in backend.choose(None)
    assert os.environ["KERAS_BACKEND"] == installed[0]


def test_a_backend_that_is_set_and_missing_is_named(unset, monkeypatch):
    (unset / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.setattr(backend, "installed", lambda: ["tensorflow"])
    assert "jax, which Keras is set to, is not installed" in backend.choose(None)
    (unset / "keras.json").unlink()
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert backend.choose(None) is None  # the only one


def test_the_backend_asked_for_wins(unset, monkeypatch):
    monkeypatch.setattr(backend, "installed", lambda: ["jax", "tensorflow"])
    (unset / "keras.json").write_text('{"backend": "jax"}')
    assert backend.choose(None) is None
    assert os.environ["KERAS_BACKEND"] == "jax"
    assert backend.choose("tensorflow") is None
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    with pytest.raises(ValueError, match=r"pip install mimzoo\[torch\]"):
        backend.choose("torch")
    monkeypatch.setattr(backend, "installed", list)
    with pytest.raises(ValueError, match=r"no backend here: `pip install mimzoo\[jax\]`"):
        backend.choose(None)


# === Ctrl-C ===


def test_ctrl_c_saves_and_the_same_command_goes_on(photos, tmp_path):
    folder = tmp_path / "w"
    arguments = ["pretrain", RECIPE, "--data", str(photos), "--workdir", str(folder)]
    arguments += ["--validation-every", "1000", "--length", "80it", "--batch-size", "8"]
    command = [sys.executable, "-m", "mimzoo_training.cli", *arguments]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(folder / "log.jsonl", process)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, err
    printed = [line for line in err.splitlines() if line.startswith("mimzoo:")]
    assert len(printed) == 1
    assert "run the same command again" in printed[0]
    assert "Traceback" not in err
    saved = max((folder / "checkpoints").iterdir()).name
    step = int(saved[5:14])
    assert f"step {step} of 80" in printed[0]
    assert 0 < step < 80
    assert cli.main(arguments) == 0
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").open()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 80
    assert (folder / "preset" / "config.json").is_file()


def wait_for(path, process, seconds=300):
    """Until a run has written its first row."""
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the run did not start"
        time.sleep(0.1)


def test_the_catalogue_is_found():
    assert (presets_folder() / "mae.json").is_file()
