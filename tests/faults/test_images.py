"""Images of odd shapes and hostile sizes: little memory, or one sentence."""

import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimzoo.data import Compose, RandomFlip, RandomResizedCrop, ResizeCrop, decode_image, images
from mimzoo.data.images import ImageError, read_file

pytestmark = pytest.mark.one_backend
ROOT = Path(__file__).parents[2]


def encode(image, kind="png"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def smooth(height, width):
    small = np.random.default_rng(0).integers(60, 190, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def resized_whole(image, size, fraction, filter_):
    """The rule as it is published: all of the image is resized."""
    short = int(size / fraction)
    width, height = image.size
    if width <= height:
        height, width = int(short * height / width), short
    else:
        height, width = short, int(short * width / height)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.resize((width, height), filter_))[top : top + size, left : left + size]


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("fraction", [0.875, 1.0])
@pytest.mark.parametrize("shape", [(40, 500), (500, 40), (300, 3000), (1, 900), (900, 1)])
def test_long_images_are_cut_like_pillows(shape, fraction, name):
    image = smooth(*shape)
    filter_ = Image.Resampling[name.upper()]
    found = ResizeCrop(32, fraction, name)(np.asarray(image)).astype(int)
    expected = resized_whole(image, 32, fraction, filter_).astype(int)
    if name == "nearest":  # where two pixels are as near, either may be taken
        assert (found != expected).mean() < 0.15
    else:
        assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("shape", [(50, 50), (70, 50), (50, 199), (32, 32), (36, 36), (28, 28)])
@pytest.mark.parametrize("kind", ["RGB", "L"])
def test_others_are_pillows_bit_for_bit(shape, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = Image.fromarray(pixels).convert(kind)
    transform = ResizeCrop(32)
    expected = resized_whole(image.convert("RGB"), 32, 0.875, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(transform(np.asarray(image.convert("RGB"))), expected)
    np.testing.assert_array_equal(transform.from_file(encode(image), "a", None), expected)


def test_no_path_needs_more_memory_than_its_crop():
    """In a process of its own, whose greatest memory is what counts."""
    code = """
import io, resource, sys, types
p = types.ModuleType("mimzoo"); p.__path__ = ["mimzoo"]; sys.modules["mimzoo"] = p
import numpy as np
from PIL import Image
from mimzoo.data import *
from mimzoo.data.images import decode_crop
crops = [ResizeCrop(224), RandomResizedCrop(224), Compose([ResizeCrop(224), RandomFlip()])]
files = []
for size in ((1, 30_000), (30_000, 1), (3, 20_000)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "png")
    files.append(buffer.getvalue())
    decode_image(buffer.getvalue())
ResizeCrop(8)(np.zeros((20, 20, 3), np.uint8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in files:
    for crop in crops:
        u = np.full(crop.draws, 0.5, np.float32)
        assert crop.from_file(data, "a", u).shape == (224, 224, 3)
        assert crop(decode_image(data), u).shape == (224, 224, 3)
    assert decode_crop(data, lambda h, w: (0, 0, h, w), 224, 3).shape == (224, 224, 3)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100  # MB; half of it for a square of 224 px out of 30,000


def test_images_are_converted_strip_by_strip(monkeypatch):
    """A large one with transparency, 16 bits or floats took five times its memory."""
    random = np.random.default_rng(0)
    pixels = Image.fromarray(random.integers(0, 256, (33, 14, 4), np.uint8))
    palette = pixels.convert("RGB").quantize(16)
    palette.info["transparency"] = 3
    shades = random.integers(0, 2**16, (33, 14), np.uint16)
    cases = [
        ("png", pixels),
        ("png", pixels.convert("LA")),
        ("png", palette),
        ("png", Image.fromarray(shades)),
        ("tiff", Image.fromarray((shades / 2**16).astype("float32"))),
        ("tiff", Image.fromarray((shades / 2**8).clip(0, 255).astype("float32"))),
    ]
    u = np.full(22, 0.5)
    reads = (decode_image, lambda data: RandomResizedCrop(8).from_file(data, "a", u))
    for kind, image in cases:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        data = buffer.getvalue()
        whole = [read(data) for read in reads]
        with monkeypatch.context() as patch:
            patch.setattr(images, "STRIP_PIXELS", 50)
            for one, read in zip(whole, reads, strict=True):
                np.testing.assert_array_equal(read(data), one)
    bad = io.BytesIO()
    values = np.zeros((33, 14), "float32")
    values[20, 3] = np.nan
    Image.fromarray(values).save(bad, "tiff")
    monkeypatch.setattr(images, "STRIP_PIXELS", 50)
    with pytest.raises(ImageError, match=r"a: image values must lie in 0\.\.255"):
        decode_image(bad.getvalue(), name="a")


def test_a_bomb_is_one_sentence():
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for read in (
        lambda: decode_image(data, name="a.png"),
        lambda: ResizeCrop(224).from_file(data, "a.png", None),
        lambda: RandomResizedCrop(224).from_file(data, "a.png", np.zeros(22)),
        lambda: Compose([RandomFlip()]).from_file(data, "a.png", np.zeros(1)),
    ):
        with pytest.raises(ImageError) as caught:
            read()
        assert re.fullmatch(
            r"a\.png: Image size \(400000000 pixels\) exceeds limit .*", str(caught.value)
        )


def test_a_file_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x" * 2000)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ImageError, match=r"a\.png: the file has 2000 bytes, more than any image"):
        read_file(tmp_path / "a.png")
