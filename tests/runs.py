"""A tiny model, tiny data and a run of them, for the tests of runs. Import the fixtures."""

import dataclasses
import json
import signal

import numpy as np
import pytest
from mimzoo_training import cli, loop
from mimzoo_training.recipes import get_recipe
from mimzoo_training.runner import pretrain
from safetensors.numpy import load_file

from mimzoo.data import ArraySource
from mimzoo.models.vit import VIT_SIZES

COUNT = 22  # of which 20 fill the 5 batches of an epoch


@pytest.fixture(scope="module", autouse=True)
def _pico():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VIT_SIZES, "pico", (16, 2, 2, 4))
        yield


@pytest.fixture(scope="module")
def source() -> ArraySource:
    random = np.random.default_rng(1)
    labels = np.arange(COUNT) % 2
    images = random.integers(0, 100, (COUNT, 8, 8, 3)) + 120 * labels[:, None, None, None]
    return ArraySource(images.astype("uint8"), labels, ("dark", "light"), "tiny train")


@pytest.fixture(scope="module")
def recipe():
    recipe = get_recipe("vit_nano_mae_fmnist_20ep").with_task(
        backbone={"size": "pico"},
        masking={"mask_ratio": 0.5},
        decoder={"embed_dim": 16, "depth": 1, "num_heads": 2},
    )
    return dataclasses.replace(
        recipe,
        name="vit_pico_mae_tiny_12it",
        size="pico",
        data="tiny",
        num_examples=COUNT,
        image_size=8,
        length="12it",
        batch_size=4,
        crop_padding=1,
        drop_path_rate=0.3,
        preset_dtype="float16",
    )


@pytest.fixture
def tuning():
    return dataclasses.replace(
        get_recipe("vit_nano_mae_finetune_fmnist_28"),
        name="vit_pico_mae_finetune_tiny_8",
        size="pico",
        data="tiny",
        num_examples=COUNT,
        image_size=8,
        length="2it",
        batch_size=4,
        crop_padding=1,
        warmup="5%",
        drop_path_rate=0.3,
    )


_WHOLE = []


@pytest.fixture(scope="module")
def whole(recipe, source, tmp_path_factory):
    """The work directory of a run that nobody stopped; one for all modules."""
    if not _WHOLE:
        folder = tmp_path_factory.mktemp("whole")
        pretrain(recipe, source, folder, validation=source, command="mimzoo pretrain x", say=str)
        _WHOLE.append(folder)
    return _WHOLE[0]


@pytest.fixture
def preset(whole):
    return str(whole / "preset")


@pytest.fixture
def quiet():
    lines = []
    return lines, lines.append


def tensors(folder, step):
    return load_file(folder / "checkpoints" / f"step_{step:09d}.safetensors")


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-6, err_msg=name)


def at_step(monkeypatch, step, act):
    """Calls `act` when the run has done `step` steps, once."""
    usual = loop._Steps.on_train_batch_end
    done = []

    def watched(self, batch, logs=None):
        if self.trainer.state["step"] + 1 == step and not done:
            done.append(step)
            act()
        usual(self, batch, logs)

    monkeypatch.setattr(loop._Steps, "on_train_batch_end", watched)


def killed_at(patch, step, run, *arguments):
    """Runs a command that gets SIGTERM when it has done `step` steps."""
    at_step(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
    assert run(*arguments) == 143


def assert_keeps_its_images(workdir, image, capsys):
    """`predict` writes no pictures into the folder of its images."""
    before = image.read_bytes()
    command = ["predict", str(workdir), str(image), "--out", str(image.parent)]
    assert cli.main(command) == 1
    assert "which could be overwritten: name another" in capsys.readouterr().err
    assert image.read_bytes() == before


def crash():
    raise MemoryError("the machine went away")
