"""Damaged and hostile files of presets and checkpoints: one sentence, no hang, little memory."""

import atexit
import contextlib
import copy
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from test_convert_layouts import mae, randomized

from mimzoo.convert.files import Safetensors
from mimzoo.hub.manifest import parse_manifest
from mimzoo.hub.resolve import read_object
from mimzoo.models import Backbone
from mimzoo.pretraining import MAE, MAEDecoder

pytestmark = pytest.mark.one_backend


@functools.cache
def tiny() -> Path:
    """A small preset without a manifest, which would notice every change."""
    folder = Path(tempfile.mkdtemp(prefix="mimzoo-fuzz-"))
    atexit.register(shutil.rmtree, folder)
    backbone = randomized(mae().backbone)
    MAE(backbone, decoder=MAEDecoder(16, 1, 4)).save_to_preset(folder)
    (folder / "manifest.json").unlink()
    return folder


def fuzz(examples: int):
    return settings(
        max_examples=int(os.environ.get("FUZZ", "1")) * examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 2, 7, 64, 10**4, 10**6, 10**9])
    | st.floats()
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
)


@contextlib.contextmanager
def refused_in_one_sentence():
    """Passes, or raises a ValueError of one line."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        if "\n" in text or not 10 < len(text) < 700:
            raise AssertionError(f"no sentence: {text}") from error


def paths(data, start=()) -> list[tuple]:
    """Every place in JSON data that can be replaced."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in inner:
        found.append((*start, key))
        if isinstance(value, dict | list):
            found += paths(value, (*start, key))
    return found


@st.composite
def damaged(draw, file: str) -> bytes:
    """A JSON file of a preset: with an entry replaced, removed, or some of its bytes changed."""
    data = json.loads((tiny() / file).read_bytes())
    kind = draw(st.sampled_from(["replace", "replace", "remove", "bytes"]))
    if kind == "bytes":
        text = bytearray(json.dumps(data).encode())
        for place in draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=3)):
            text[place] = draw(st.integers(0, 255))
        return bytes(text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text)
    data = copy.deepcopy(data)
    *outer, last = draw(st.sampled_from(paths(data)))
    inner = data
    for key in outer:
        inner = inner[key]
    if kind == "remove":
        del inner[last]
    else:
        inner[last] = draw(VALUES)
    return json.dumps(data).encode()


@pytest.fixture(scope="module")
def preset(tmp_path_factory) -> Path:
    return shutil.copytree(tiny(), tmp_path_factory.mktemp("fuzz") / "preset")


def memory() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load(preset: Path, file: str, content: bytes, cls: type) -> None:
    before = memory()
    good = (tiny() / file).read_bytes()
    (preset / file).write_bytes(content)
    try:
        with refused_in_one_sentence():
            cls.from_preset(preset)
    finally:
        (preset / file).write_bytes(good)
    assert memory() - before < 500e6


@fuzz(40)
@given(content=damaged("config.json"))
def test_config(preset, content):
    load(preset, "config.json", content, Backbone)


@fuzz(30)
@given(content=damaged("task.json"))
def test_task(preset, content):
    load(preset, "task.json", content, MAE)


@fuzz(10)
@given(content=damaged("image_converter.json"))
def test_converter(preset, content):
    load(preset, "image_converter.json", content, MAE)


@fuzz(200)
@given(data=VALUES | st.builds(lambda files: {"files": files}, VALUES))
def test_manifest(data):
    with refused_in_one_sentence():
        parse_manifest(json.dumps(data).encode())


@fuzz(200)
@given(text=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_objects(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "object.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"is no JSON file|is no serialised Keras object"):
        read_object(path)


@st.composite
def headers(draw) -> bytes:
    """A safetensors file: cut off, with other bytes, or with another header."""
    whole = save({"a": np.zeros((2, 3), "float32"), "b": np.ones(4, "int64")})
    kind = draw(st.sampled_from(["cut", "bytes", "header", "length"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if kind == "length":
        return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + whole[8:]
    if kind == "bytes":
        changed = bytearray(whole)
        for place in draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
            changed[place] = draw(st.integers(0, 255))
        return bytes(changed)
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "I64", "X"]) | VALUES,
            "shape": st.lists(st.integers(-2, 2**40), max_size=3) | VALUES,
            "data_offsets": st.lists(st.integers(-2, 2**70), min_size=1, max_size=3) | VALUES,
        }
    )
    header = draw(st.dictionaries(st.text(max_size=5), entry | VALUES, max_size=3) | VALUES)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


def check_safetensors(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    before = memory()
    with refused_in_one_sentence():
        tensors = Safetensors(path)
        for name in tensors:
            assert tensors[name].shape == tensors.shape(name)
    assert memory() - before < 100e6


@fuzz(400)
@given(content=headers())
def test_safetensors(content, tmp_path_factory):
    check_safetensors(tmp_path_factory.getbasetemp() / "x.safetensors", content)
