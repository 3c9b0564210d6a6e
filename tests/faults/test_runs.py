"""Runs whose folder, terminal, devices or libraries do not behave."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from mimzoo_training import checkpoint, cli, errors, export, files, output
from mimzoo_training.distribution import Job
from mimzoo_training.distribution.environment import local_index
from mimzoo_training.files import RunError
from mimzoo_training.finetune import finetune
from mimzoo_training.interrupt import Interrupted, SignalGuard
from mimzoo_training.runner import pretrain
from mimzoo_training.study import devices
from mimzoo_training.workdir import Workdir
from PIL import Image
from runs import (
    _pico,
    at_step,
    preset,
    quiet,
    recipe,
    source,
    tuning,
    whole,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import resume

one_backend = pytest.mark.one_backend


# === One run in a folder ===


@one_backend
@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_folder_is_locked_until_its_last_file_is_there(
    kind, recipe, tuning, preset, source, tmp_path, quiet, monkeypatch
):
    def run():
        if kind == "pretrain":
            short = dataclasses.replace(recipe, length="1it")
            return pretrain(short, source, tmp_path / "w", say=quiet[1])
        return finetune(preset, source, tmp_path / "w", tuning, say=quiet[1])

    usual, refused = files.write_json, []

    def second(path, data):
        if not refused:  # while the preset is written, and not only while it trains
            assert ".writing-preset" in str(path)
            with pytest.raises(RunError, match="another run is at work in") as stop:
                run()
            refused.append(stop)
        usual(path, data)

    monkeypatch.setattr(export, "write_json", second)
    place = run()
    assert refused
    assert place.finished


@one_backend
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(code, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match=f"{tmp_path} has no locks"), Workdir(tmp_path).locked():
        pass
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == []


# === Output ===


@one_backend
def test_a_run_outlives_its_output(source, tmp_path):
    """Standard output is a pipe that nobody reads, or full, or closed."""
    for number in range(16):
        pixels = source.images[number].repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    command = [sys.executable, "-m", "mimzoo_training.cli"]
    folder = tmp_path.parent / f"{tmp_path.name}_run"
    run = [*command, "pretrain", "vit_nano_mae_fmnist_20ep", "--length", "3it"]
    run += ["--batch-size", "4", "--data", tmp_path, "--workdir", folder]
    environment = {**os.environ, "KERAS_BACKEND": keras.config.backend()}

    def shell(arguments, redirect):
        script = f"set -o pipefail; {shlex.join(map(str, arguments))} {redirect}"
        subprocess.run(["bash", "-c", script], env=environment, check=True)

    shell(run, "2>&1 | true")
    assert Workdir(folder).finished
    assert checkpoint.latest(folder / "checkpoints").stem == "step_000000003"
    for redirect in ("| true", "</dev/null >&- 2>/dev/full"):
        shell([*command, "list"], redirect)


@one_backend
def test_what_cannot_be_printed_is_dropped(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with output.steady():
            print("a" * 100_000)
            print("b", flush=True)
        assert sys.stdout is full
    monkeypatch.setattr(sys, "stdout", None)
    with output.steady():
        assert not sys.stdout.isatty()
        print("c")
    reader, writer = os.pipe()
    with open(reader) as read, open(writer, "w", encoding="ascii") as ascii_only:
        monkeypatch.setattr(sys, "stdout", ascii_only)
        with output.steady():
            print("é")
        ascii_only.close()
        assert read.read() == "\\xe9\n"


# === Kills ===


@one_backend
def test_a_run_that_is_ended_twice_is_the_run_that_was_not(capsys):
    """While a checkpoint and while the preset is written; more: `benchmarks/resume.py`."""
    assert resume.compare("pretrain", keras.config.backend(), 12, ["saving", "export"]), (
        capsys.readouterr().out
    )


# === Signals ===


@one_backend
def test_signals_that_end_a_run_save_it_first(recipe, source, tmp_path, monkeypatch, quiet):
    number = signal.SIGHUP

    def twice():  # as shell and kernel send it
        signal.raise_signal(number)
        signal.raise_signal(number)

    at_step(monkeypatch, 3, twice)
    with pytest.raises(Interrupted, match="saved at step 3 of 12") as stop:
        pretrain(recipe, source, tmp_path, say=quiet[1])
    assert stop.value.exit_code == 128 + number
    assert checkpoint.latest(tmp_path / "checkpoints").stem == "step_000000003"
    assert signal.getsignal(number) == signal.SIG_DFL


@one_backend
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1"])
def test_signals_that_end_a_run_do_so_after_its_step(name):
    number = getattr(signal, name)
    with SignalGuard() as guard:
        signal.raise_signal(number)
        signal.raise_signal(number)  # the kernel sends SIGXCPU each second
        assert guard.received == number
    assert signal.getsignal(number) == signal.SIG_DFL


@one_backend
def test_nohup_is_respected_and_a_second_ctrl_c_stops_at_once():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalGuard() as guard:
            signal.raise_signal(signal.SIGHUP)
            assert guard.received is None
            signal.raise_signal(signal.SIGINT)
            assert guard.received == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# === Errors ===


@one_backend
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory: use a smaller --batch-size"),
        (np.exceptions.AxisError("x"), "x"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "9"),
        (
            RuntimeError("CUDA out of memory. Tried to\n  more lines"),
            "out of memory",
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"), "out of memory"),
        (RuntimeError("can't start new thread"), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), "a.png: No such"),
        (
            Exception(
                "{{function_node x}} FileNotFoundError: [Errno 2] x\n"
                "Traceback (most recent call last):\n\n"
                '  File "a.py", line 1, in b\n'
                "FileNotFoundError: [Errno 2] No such file: 'a.png'\n\n\n"
                "\t [[{{node PyFunc}}]] [Op:IteratorGetNext]"
            ),
            "[Errno 2] No such file: 'a.png'",
        ),
    ],
)
def test_errors_of_every_library_are_one_sentence(error, words, monkeypatch, capsys):
    from mimzoo_training import listing

    def fail(args):
        raise error

    monkeypatch.setattr(listing, "list_all", fail)
    assert cli.main(["list"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("mimzoo: ")
    assert printed.count("\n") == 1
    assert words in printed
    assert "Traceback" not in printed


@one_backend
def test_an_error_that_nobody_expects_keeps_its_traceback():
    assert errors.sentence(RuntimeError("a bug")) is None
    assert errors.sentence(KeyError("a bug")) is None


# === Devices ===


@one_backend
def test_a_process_takes_its_own_device():
    job = Job(3, 4, "a:1", 3, "slurm")
    assert local_index(job, 4) == 3
    assert local_index(job, 1) == 0  # SLURM shows each task one GPU
    with pytest.raises(ValueError, match="process 4 of its machine, which shows it 2 devices"):
        local_index(job, 2)


@one_backend
@pytest.mark.parametrize(
    ("visible", "jobs", "found"),
    [
        (None, None, [("0", 2), ("1", 2)]),
        ("1", None, [("1", 4)]),
        ("MIG-5f3a", None, [("MIG-5f3a", 1)]),
        ("GPU-1b2c, MIG-5f3a/7/0", None, [("GPU-1b2c", 1), ("MIG-5f3a/7/0", 1)]),
        ("MIG-5f3a", 2, [("MIG-5f3a", 2)]),
        ("1,MIG-5f3a", None, [("1", 2), ("MIG-5f3a", 1)]),
    ],
)
def test_parts_of_a_gpu_are_passed_on(visible, jobs, found, monkeypatch):
    monkeypatch.setattr(devices, "_memory", lambda: {"0": 8e9, "1": 8e9})
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = devices.find_devices(jobs)
    assert [(d.env["CUDA_VISIBLE_DEVICES"], d.slots) for d in made] == found


@one_backend
@pytest.mark.parametrize("visible", ["", "-1", "7"])
def test_hidden_gpus_are_not_used(visible, monkeypatch):
    monkeypatch.setattr(devices, "_memory", lambda: {"0": 8e9})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.find_devices()[0].name == "CPU"
