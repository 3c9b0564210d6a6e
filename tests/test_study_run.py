"""A study that is killed resumes, tolerates a cell that fails, and leaves a report."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from mimzoo_training import cli
from mimzoo_training.files import RunError
from mimzoo_training.study import listing, load_study, plan
from mimzoo_training.study.devices import Device, find_devices, place
from mimzoo_training.study.estimate import POWER, Estimate
from mimzoo_training.study.place import Place, digest

from mimzoo.hub.contents import Contents

pytestmark = pytest.mark.one_backend

# `second` takes long enough to be killed; `broken` cannot learn at such a rate.
SPEC = """
title = "Killed and resumed"
validation = 64
test = 64
validations = 2

[models.first]
recipe = "vit_nano_mae_fmnist"
finetune = "vit_nano_mae_finetune_fmnist_28"
[models.first.changes]
architecture = { embed_dim = 16, depth = 1, num_heads = 2 }
decoder_dim = 16
decoder_depth = 1
batch_size = 32

[models.broken]
recipe = "vit_nano_mae_fmnist"
[models.broken.changes]
architecture = { embed_dim = 16, depth = 1, num_heads = 2 }
decoder_dim = 16
decoder_depth = 1
batch_size = 32
base_learning_rate = 1e30

[[grid]]
models = ["first"]
data = [64]
lengths = ["4it"]
[[grid]]
models = ["broken"]
data = [64]
lengths = ["4it"]
[[grid]]
models = ["first"]
data = [64]
lengths = ["200it"]

[[evaluate.finetune]]
labels = 100
length = "1ep"
[evaluate.features]
labels = [20]
"""


def command(spec, folder):
    arguments = ["study", str(spec), "--data", "embedded", "--workdir", str(folder), "--jobs", "1"]
    return [sys.executable, "-m", "mimzoo_training.cli", *arguments]


def test_a_killed_study_goes_on(tmp_path):
    spec, folder = tmp_path / "spec.toml", tmp_path / "study"
    spec.write_text(SPEC)
    study, where = load_study(str(spec)), Place(folder)
    last = study.cells[-1]
    log = where.cell(last.name) / "pretrain" / "log.jsonl"
    process = subprocess.Popen(
        command(spec, folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 600
    while not (log.is_file() and log.read_text().count("\n") > 1):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "nothing began"
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished = where.cell(study.cells[0].name) / "cell.json"
    written = finished.stat().st_mtime_ns

    again = subprocess.run(command(spec, folder), capture_output=True, text=True, check=False)
    printed = again.stdout
    assert again.returncode == 1, printed + again.stderr  # one cell has failed
    assert "3 cells, 1 of them finished" in printed
    assert "broken_64img_4it_seed0 failed: " in printed
    assert "the loss is" in printed
    assert finished.stat().st_mtime_ns == written
    # What was killed saved itself and went on from there.
    output = (where.cell(last.name) / "output.txt").read_text()
    assert output.count("200 steps of 32 images") == 2
    steps = [row["step"] for row in csv.DictReader(log.with_suffix(".csv").open())]
    assert steps == sorted(set(steps), key=int)
    assert steps[-1] == "200"
    rows = [where.row(cell, study) for cell in study.cells]
    assert [row is None for row in rows] == [False, True, False]
    for row in (rows[0], rows[2]):
        assert set(row) >= {"val_loss", "finetune_100", "probe_20", "knn_20", "seconds", "weights"}
    assert (folder / "report.md").is_file()
    preset = Contents.read(where.cell(last.name) / "pretrain" / "preset")
    assert preset.name == "first_embedded-64img_200it"
    printed = {entry["metric"]: entry["value"] for entry in preset.results}
    assert printed == {
        "masked loss, masks of seed 0": rows[2]["val_loss"],
        "accuracy, fine-tuned on 100 labels for 1 epoch": rows[2]["finetune_100"],
        "accuracy, linear probe on 20 labels, mean-pooled features": rows[2]["probe_20"],
        "accuracy, 20 nearest neighbours on 20 labels, mean-pooled features": rows[2]["knn_20"],
    }
    assert "fine-tuned on 100 labels" in (preset.path / "README.md").read_text()
    out = tmp_path / "grid.json"
    listing.main(str(folder), str(out))
    cells = json.loads(out.read_text())["cells"]
    assert [cell["name"] for cell in cells] == [
        "first_embedded-64img_4it",
        "first_embedded-64img_200it",
    ]
    assert cells[1]["results"]["knn_20"] == [rows[2]["knn_20"]]


def test_what_cannot_be_run_is_told_at_once(tmp_path, capsys):
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC.replace("data = [64]", "data = [8]", 1))
    assert cli.main(command(spec, tmp_path / "study")[3:]) == 1
    assert "8 images are fewer than the batch of 32" in capsys.readouterr().err
    for old, new, printed in (
        ("labels = [20]", "labels = [2000]", "takes 2000 labels; embedded has 1000"),
        ("labels = 100", "labels = 50", "50 labels are fewer than the batch of 100"),
        ("num_heads = 2", "num_heads = 3", "num_heads"),
    ):
        (tmp_path / "study" / "spec.toml").write_text(SPEC.replace(old, new, 1))
        with pytest.raises(ValueError, match=printed):
            plan.main(str(tmp_path / "study"))


def test_a_study_keeps_to_its_folder(tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    study, where = load_study(str(spec)), Place(tmp_path / "study")
    sources = {"data": "embedded", "validation": None, "test": None}
    prints = {"train": "a", "test": "b"}
    where.claim(study, sources, str(spec), prints)
    where.claim(study, sources, str(spec), prints)
    with pytest.raises(RunError, match="begun with other images of test: put them back"):
        where.claim(study, sources, str(spec), {**prints, "test": "c"})
    assert where.read()[0].cells == study.cells
    cell = study.cells[0]
    folder = where.cell(cell.name)
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(
        json.dumps({"name": cell.name, "digest": digest(cell, study)})
    )
    assert where.row(cell, study) == {"name": cell.name}
    assert where.row(study.cells[1], study) is None
    with pytest.raises(RunError, match="another recipe or other evaluations"):
        where.row(cell, dataclasses.replace(study, validation=32))
    with pytest.raises(RunError, match="was begun with data 'embedded', not 'other'"):
        where.claim(study, {**sources, "data": "other"}, str(spec), prints)
    with pytest.raises(RunError, match="holds no study"):
        Place(tmp_path).claim(study, sources, str(spec), prints)


def test_the_time_left_is_learned_from_cells_that_ended():
    plan = {str(n): {"steps": 100, "flops": 1e9 * 16**n} for n in range(4)}
    seconds = {str(n): 10.0 * 2**n for n in range(4)}  # 16 times the FLOP take twice the time
    estimate = Estimate(plan, {})
    shares = dict.fromkeys(plan, 0.0)
    assert estimate.left(shares, 3.0) is None
    shares["0"] = 0.5
    # A step of 16 times the FLOP is taken for four times as long, until one has ended.
    assert estimate.left(shares, 5.0) == pytest.approx(10 * (0.5 + 4 + 16 + 64))
    shares["0"] = 1.0
    estimate.ended("0", seconds["0"])
    assert estimate.left(shares, 10.0) == pytest.approx(10 * (4 + 16 + 64))
    shares["1"] = 1.0
    estimate.ended("1", seconds["1"])
    assert estimate.power == pytest.approx(0.25)
    assert estimate.left(shares, 30.0) == pytest.approx(seconds["2"] + seconds["3"])
    assert estimate.done(shares) == pytest.approx(30 / 150)
    # What was done another time does not count into the rate, nor does its cell's time.
    later = Estimate(plan, {"3": 0.5})
    later.ended("3", 1.0)
    assert later.power == POWER
    shares = {**dict.fromkeys(plan, 0.0), "3": 0.75}
    assert later.left(shares, 10.0) == pytest.approx(10 + 40 * (1 + 4 + 16) / 64)


def test_cells_are_packed_by_memory():
    devices = [Device("GPU 0", 10.0, 3), Device("GPU 1", 10.0, 3)]
    taken = [place(devices, str(n), 6.0) for n in range(3)]
    assert [found and found[0].name for found in taken] == ["GPU 0", "GPU 1", None]
    assert place(devices, "small", 3.0)[0].name == "GPU 0"
    assert place(devices, "large", 100.0) is None
    devices[1].running.clear()
    assert place(devices, "large", 100.0)[0].name == "GPU 1"  # alone, any cell may try
    (cpu,) = find_devices(jobs=2)
    assert cpu.slots == 2
    with pytest.raises(ValueError, match="--jobs must be at least 1"):
        find_devices(0)
