"""The guides and the quick start, run as a reader runs them, only smaller."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "guides"
GUIDES = ("finetune_your_images", "pretrain_your_images")
# Compilation takes longer than the guides train, so one of them is enough on JAX and TensorFlow.
LEFT_OUT = {
    "jax": {"finetune_your_images", "quickstart"},
    "tensorflow": {"finetune_your_images", "pretrain_your_images"},
}.get(keras.backend.backend(), set())
TIMEOUT = 300  # seconds; against hanging, a run takes far less


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """All three scripts, started side by side: name -> (folder that it runs in, process)."""
    # One thread each: with more, three processes on few cores wait for each other.
    environment = {**os.environ, "MIMZOO_GUIDE_FAST": "1", "OMP_NUM_THREADS": "1"}
    processes = {}
    for name in {*GUIDES, "quickstart"} - LEFT_OUT:
        folder = tmp_path_factory.mktemp(name)
        processes[name] = (
            folder,
            subprocess.Popen(
                [sys.executable, str(FOLDER / f"{name}.py")],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ),
        )
    yield processes
    for _, process in processes.values():
        process.kill()
        process.communicate()


def finished(started, name):
    """Folder, output and messages of a script that has to end well."""
    if name in LEFT_OUT:
        pytest.skip("runs on torch")
    folder, process = started[name]
    output, messages = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, messages[-3000:]
    return folder, output, messages


def check_picture(path, size):
    """A readable PNG of that size in pixels, with more on it than its background."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == size
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def percentages(pattern, output):
    """The numbers that a pattern with one group finds, each a possible accuracy."""
    values = [float(value) for value in re.findall(pattern, output)]
    assert all(0 <= value <= 100 for value in values)
    return values


def test_finetune_guide(started):
    folder, output, _ = finished(started, "finetune_your_images")
    out = folder / "runs" / "finetune_your_images"
    assert "80 images to train on, 20 kept back" in output  # by class
    assert len(percentages(r"(?m)^(?:linear probe|fine-tuned) +([\d.]+)%$", output)) == 2
    (difference,) = re.findall(r"its scores differ by (\S+)", output)
    assert float(difference) < 1e-4
    assert (out / "classifier" / "config.json").is_file()
    check_picture(out / "confusion.png", (750, 650))
    check_picture(out / "hardest.png", (1100, 560))


def test_pretrain_guide(started):
    folder, output, _ = finished(started, "pretrain_your_images")
    out = folder / "runs" / "pretrain_your_images"
    ((first, last),) = re.findall(r"loss on held-out images: ([\d.]+) -> ([\d.]+)", output)
    assert float(last) < float(first)
    assert len(percentages(r"(?m)^  (?:untrained|pretrained) +([\d.]+)%$", output)) == 2
    assert "scores of shape (4, 10)" in output
    assert (out / "backbone" / "config.json").is_file()
    check_picture(out / "curve.png", (700, 420))
    check_picture(out / "reconstruction.png", (1000, 400))


def test_quickstart(started):
    folder, output, messages = finished(started, "quickstart")
    assert len(percentages(r"from (?:the preset|scratch) .* ([\d.]+)%", output)) == 2
    table = [line for line in output.splitlines() if line.startswith(("┏", "┃", "┡", "│", "└"))]
    assert len(table) == 6
    assert len({len(line) for line in table}) == 1, "not aligned"
    assert re.search(r"took \d+ seconds", output)
    for name in GUIDES:
        assert f"guides/{name}.py" in output
    assert messages == "", "noise before the result"
    check_picture(folder / "quickstart.png", (1200, 400))


def test_quickstart_without_its_preset(monkeypatch):
    spec = importlib.util.spec_from_file_location("quickstart", FOLDER / "quickstart.py")
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    # A recipe whose weights nobody has made.
    monkeypatch.setattr(quickstart, "PRESET", "vit_base_mae_coyo1m_250k")
    with pytest.raises(SystemExit, match=r"needs the bundled preset.*mimzoo pretrain"):
        quickstart.main()


@pytest.mark.parametrize("name", GUIDES)
def test_guide_is_a_notebook_with_one_line_to_change(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n")
    cells = re.split(r"(?m)^# %%", text)[1:]
    code = [cell for cell in cells if not cell.startswith(" [markdown]")]
    for cell in code:
        ast.parse(cell)
    for cell in cells:
        if cell not in code:
            assert all(line.startswith("#") for line in cell.splitlines()[1:] if line)
    assert code[0].strip().splitlines()[0] == "import mimzoo"
    assert len(re.findall(r"(?m)^FOLDER = ", text)) == 1
