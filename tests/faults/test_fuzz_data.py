"""Random damage to tar files, indexes of shards and images: our own errors, in time and memory.

`python -m benchmarks.fuzz` tries far more.
"""

import contextlib
import io
import json
import os
import resource
import signal
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from shard_files import write_shards

from mimzoo.data import open_source
from mimzoo.data.archives import read_contents
from mimzoo.data.images import ImageError, decode_crop, decode_image
from mimzoo.data.open_files import open_regular
from mimzoo.data.shard_scan import scan
from mimzoo.data.tar_headers import BLOCK, DamagedTarError, HeaderReader

pytestmark = pytest.mark.one_backend
SECONDS = 20
MAX_MEMORY = 300  # MB more than before
EXAMPLES = settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Raises AssertionError in what takes too long."""

    def stop(*_):
        raise AssertionError(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < MAX_MEMORY


# A change: bytes written at a place (a share of the length), or the file cut there.
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=12), st.booleans()), max_size=4
)


def damaged(data: bytes, changes: list) -> bytes:
    for place, new, cut in changes:
        start = int(place * len(data))
        data = data[:start] + new + (b"" if cut else data[start + len(new) :])
    return data


# === Tar files ===


def example_tar(kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name in ("a/1.jpg", "a/1.cls", f"{'n' * 150}/ü.png", "b/2.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"123"))
        for link, name in ((tarfile.LNKTYPE, "a/1.jpg"), (tarfile.SYMTYPE, "../a/1.jpg")):
            member = tarfile.TarInfo(f"c/{link.decode()}.jpg")
            member.type, member.linkname = link, name
            archive.addfile(member)
    return buffer.getvalue()


TARS = [example_tar(k) for k in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
FIELDS = (0, 124, 156, 157, 257, 345, 482)
TAR_CASES = st.tuples(
    st.integers(0, len(TARS) - 1),
    CHANGES,
    # Headers that are damaged, and whose checksum holds all the same.
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(FIELDS), st.binary(max_size=14)), max_size=3
    ),
    st.sampled_from([b"", b"13 size=-1536", b"99 path=x\n", b"10 size=5\n"]),
)


def damaged_tar(tar: int, changes: list, headers: list, pax: bytes) -> bytes:
    data = bytearray(TARS[tar])
    for number, place, new in headers:
        header = bytearray(data[number * BLOCK : (number + 1) * BLOCK])
        header[place : place + len(new)] = new
        header = header[:BLOCK]
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[number * BLOCK : (number + 1) * BLOCK] = header
    if pax:
        data[BLOCK : BLOCK + len(pax)] = pax
        data[156:157] = b"x"
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:BLOCK])
    return damaged(bytes(data), changes)


def check_tar(case: tuple) -> None:
    data = damaged_tar(*case)
    with tempfile.TemporaryDirectory() as folder, in_time():
        path = Path(folder) / "a.tar"
        path.write_bytes(data)
        with open_regular(path) as file, contextlib.suppress(DamagedTarError):
            for member in HeaderReader(file).members():
                assert 0 <= member.start <= member.start + member.size <= len(data)
        with contextlib.suppress(ValueError):
            for start, size in read_contents(str(path)).places.values():
                assert start + size <= len(data)
        with contextlib.suppress(ValueError):
            source = open_source(path, "all")
            for index in range(len(source)):
                with contextlib.suppress(ImageError):
                    source[index]
        found = scan(str(path), None)
        assert len(found.records) <= len(data) // BLOCK


# === Indexes of shards ===

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
FILES = ("shards.json", "examples", "keys", "parts")
INDEX_CASES = st.tuples(
    st.dictionaries(st.sampled_from(FILES), CHANGES, max_size=3),
    # Instead of damage to its bytes, another value in the table.
    st.none() | st.tuples(st.integers(0, 30), JSON),
)


def prepare_index(folder: Path) -> dict[Path, bytes]:
    """Shards with an index, whose files are put back before each example."""
    spec = write_shards(folder / "a", count=2, samples=4, labels=True)
    open_source(spec, "validation", holdout=0.4)
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_index(case: tuple, folder: Path, files: dict[Path, bytes]) -> None:
    changes, value = case
    for path in list(folder.rglob("*")):
        if path.is_file() and path not in files:
            path.unlink()
    for path, data in files.items():
        path.write_bytes(data)
        kind = path.parent.name if path.parent.name == "parts" else path.name.partition("-")[0]
        if kind in changes:
            path.write_bytes(damaged(data, changes[kind]))
        elif kind == "shards.json" and value is not None:
            table = json.loads(data)
            place, new = value
            if place < len(table):
                table[list(table)[place]] = new
            else:
                table["shards"][place % 2][place % 3] = new
            path.write_text(json.dumps(table))
    with in_time(), contextlib.suppress(ValueError, OSError):
        source = open_source(f"shards:{folder}/a", "train", holdout=0.4)
        for index in range(len(source)):
            with contextlib.suppress(ImageError):
                source[index]
        if source.labelled:
            assert len(source.labels) == len(source)
        assert len(source.fingerprint()) == 32


# === Images ===


def example_images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 4), np.uint8)
    image, found = Image.fromarray(pixels), []
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, mode, options in (
        ("png", "RGBA", {}),
        ("png", "P", {"transparency": 3}),
        ("jpeg", "RGB", {"exif": exif}),
        ("jpeg", "CMYK", {"progressive": True}),
        ("gif", "P", {"save_all": True, "append_images": [image.convert("P")]}),
        ("webp", "RGB", {}),
        ("tiff", "RGB", {"compression": "tiff_lzw"}),
        ("tiff", "F", {}),
        ("bmp", "RGB", {}),
        ("ppm", "RGB", {}),
        ("ico", "RGBA", {}),
        ("tga", "RGB", {}),
        ("jpeg2000", "RGB", {}),
        ("avif", "RGB", {}),
        ("dds", "RGBA", {}),
        ("pcx", "RGB", {}),
        ("sgi", "RGB", {}),
    ):
        buffer = io.BytesIO()
        with contextlib.suppress(OSError, KeyError):  # a codec that this Pillow lacks
            (image.convert("RGB") if mode in "CMYKFP" else image).convert(mode).save(
                buffer, kind, **options
            )
            found.append(buffer.getvalue())
    return found


IMAGES = example_images()
IMAGE_CASES = st.tuples(st.integers(0, len(IMAGES) - 1) | st.binary(max_size=80), CHANGES)


def check_image(case: tuple) -> None:
    image, changes = case
    data = damaged(IMAGES[image] if isinstance(image, int) else image, changes)
    for read in (
        lambda: decode_image(data, name="a.jpg"),
        lambda: decode_image(data, name="a.jpg", min_size=2),
        lambda: decode_crop(data, lambda h, w: (0, 0, h, w), 5, 3, name="a.jpg"),
    ):
        with in_time():
            error = None
            try:
                image = read()
            except ImageError as caught:
                error = str(caught)
        if error is None:
            assert (image.dtype, image.shape[2:]) == (np.uint8, (3,))
        else:
            assert error.startswith("a.jpg: ")
            assert "\n" not in error


# === The tests ===


@pytest.fixture(autouse=True, scope="module")
def _small_bombs():
    """Pillow's guard lets pass what takes 700 MB."""
    guard = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = 2**21
    with in_memory():
        yield
    Image.MAX_IMAGE_PIXELS = guard


@EXAMPLES
@given(TAR_CASES)
def test_damaged_tars(case):
    check_tar(case)


@EXAMPLES
@given(IMAGE_CASES)
def test_damaged_images(case):
    check_image(case)


def test_damaged_indexes(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "fsync", lambda number: None)
    files = prepare_index(tmp_path)

    @settings(EXAMPLES, max_examples=100)
    @given(INDEX_CASES)
    def run(case):
        check_index(case, tmp_path, files)

    run()
