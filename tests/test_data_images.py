"""Decoding: every kind of file becomes upright uint8 RGB or one clear error."""

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from mimzoo.data.images import ImageError, decode_crop, decode_image, to_rgb
from mimzoo.data.pixels import rgb_images


def encode(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(height=5, width=7):
    return np.arange(height * width, dtype=np.uint8).reshape(height, width)


@pytest.mark.parametrize("from_path", [False, True])
def test_rgb_is_kept(tmp_path, from_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    data = encode(Image.fromarray(pixels))
    if from_path:
        (tmp_path / "a.png").write_bytes(data)
        data = tmp_path / "a.png"
    result = decode_image(data)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, pixels)


def test_greyscale_is_repeated():
    result = decode_image(encode(Image.fromarray(ramp())))
    np.testing.assert_array_equal(result, np.repeat(ramp()[..., None], 3, axis=-1))


def test_sixteen_bits_are_scaled():
    values = np.array([[0, 257, 65535], [257 * 100, 257 * 7 + 128, 257 * 7 + 129]], np.uint16)
    result = decode_image(encode(Image.fromarray(values)))
    np.testing.assert_array_equal(result[..., 0], [[0, 1, 255], [100, 7, 8]])


def test_float_image():
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(
        decode_image(encode(Image.fromarray(values), "tiff"))[0, :, 1], [0, 128, 255]
    )
    np.testing.assert_array_equal(
        decode_image(encode(Image.fromarray(values * 200), "tiff"))[0, :, 1], [0, 100, 200]
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    result = decode_image(encode(image.convert(mode)))
    np.testing.assert_array_equal(result[0], [[255] * 3, [0] * 3, [204] * 3])


def test_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode_image(encode(image))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    result = decode_image(encode(image, transparency=0))
    assert result[0].tolist() == [[255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pillows_images_in_a_list_are_as_from_a_file(mode):
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    grey = Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
    image = grey if mode == "I;16" else Image.fromarray(colours).convert(mode)
    image.getexif()[274] = 6  # to be turned by a quarter
    data = encode(image, "jpeg" if mode == "CMYK" else "png", exif=image.getexif())
    with Image.open(io.BytesIO(data)) as image:
        (taken,) = rgb_images([image])
        assert image.size == (7, 5)
    assert taken.shape == (7, 5, 3)
    np.testing.assert_array_equal(taken, decode_image(data))


def test_cmyk():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode_image(encode(image, "jpeg", quality=100))[4, 4]
    assert red[0] > 240
    assert max(red[1:]) < 15


def test_exif_orientation():
    image = Image.fromarray(ramp(2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn clockwise
    result = decode_image(encode(image, exif=exif))
    np.testing.assert_array_equal(result[..., 0], np.rot90(ramp(2, 3), -1))


def test_min_size_shrinks_only_large_jpegs():
    data = encode(Image.new("RGB", (640, 320), "red"), "jpeg")
    assert decode_image(data).shape == (320, 640, 3)
    assert decode_image(data, min_size=100).shape == (160, 320, 3)
    assert decode_image(data, min_size=161).shape == (320, 640, 3)


def photograph(height, width, seed=0):
    """Noise on all scales, smooth as photographs are."""
    rng = np.random.default_rng(seed)
    total = np.full((height, width, 3), 128.0)
    for level in range(1, 8):
        small = np.clip(rng.normal(size=(2**level, 2**level, 3)) * 40 / level + 128, 0, 255)
        layer = Image.fromarray(small.astype(np.uint8)).resize((width, height), Image.BICUBIC)
        total += np.asarray(layer).astype(float) - 128
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def cropped_after(data, box, size, resampling):
    top, left, height, width = box
    part = decode_image(data)[top : top + height, left : left + width]
    return np.asarray(Image.fromarray(part).resize((size, size), resampling))


@pytest.mark.parametrize("resampling", [Image.NEAREST, Image.BILINEAR, Image.BICUBIC])
@pytest.mark.parametrize("kind", ["rgb", "grey", "cmyk", "png", "grey png", "alpha", "palette"])
def test_a_crop_is_cut_from_the_decoded_image(kind, resampling):
    image = photograph(60, 90)
    image = {
        "grey": image.convert("L"),
        "cmyk": image.convert("CMYK"),
        "grey png": image.convert("L"),
        "alpha": Image.merge("RGBA", [*image.split(), image.convert("L")]),
        "palette": image.quantize(16),
    }.get(kind, image)
    data = encode(image, "jpeg" if kind in ("rgb", "grey", "cmyk") else "png")
    for box in ((0, 0, 60, 90), (7, 11, 40, 33), (59, 89, 1, 1), (3, 60, 50, 30)):
        result = decode_crop(data, lambda h, w, box=box: box, 32, resampling)
        np.testing.assert_array_equal(result, cropped_after(data, box, 32, resampling))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_cut_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph(64, 96), "jpeg", exif=exif, quality=95)
    shape = (64, 96) if orientation < 5 else (96, 64)

    def box(height, width):
        assert (height, width) == shape
        return 10, 20, 50, 40

    result = decode_crop(data, box, 32, Image.BICUBIC)
    np.testing.assert_array_equal(result, cropped_after(data, (10, 20, 50, 40), 32, Image.BICUBIC))
    # At half its size.
    small = decode_crop(data, box, 16, Image.BICUBIC).astype(int)
    assert np.abs(small - cropped_after(data, (10, 20, 50, 40), 16, Image.BICUBIC)).mean() < 2


@pytest.mark.parametrize("grey", [False, True])
def test_a_large_crop_is_decoded_smaller_and_stays_close(monkeypatch, grey):
    image = photograph(603, 801)
    data = encode(image.convert("L") if grey else image, "jpeg", quality=90)
    drafts = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def spy(self, mode, size):
        result = draft(self, mode, size)
        drafts.append(round(603 / self.height))
        return result

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", spy)
    for size, box, factor in (
        (64, (0, 0, 603, 801), 8),
        (64, (21, 37, 513, 519), 8),
        (64, (21, 37, 511, 519), 4),
        (64, (100, 333, 200, 150), 2),
        (64, (100, 333, 127, 300), 1),
        (224, (1, 3, 449, 460), 2),
    ):
        drafts.clear()
        result = decode_crop(data, lambda h, w, box=box: box, size, Image.BICUBIC).astype(int)
        assert drafts == ([factor] if factor > 1 else [])
        full = cropped_after(data, box, size, Image.BICUBIC).astype(int)
        off_by_one = cropped_after(data, (box[0], box[1] + factor, *box[2:]), size, Image.BICUBIC)
        difference = np.abs(result - full).mean()
        assert difference < (2.0 if factor > 1 else 1e-9)
        # Not shifted: far closer than the same box one small pixel further.
        assert difference < 0.5 * np.abs(off_by_one.astype(int) - full).mean()


def test_a_crop_of_a_broken_file_has_its_name():
    data = encode(photograph(60, 90), "jpeg")
    for content, reason in ((b"", "empty"), (b"junk", "not an image"), (data[:700], "truncated")):
        with pytest.raises(ImageError, match=rf"s\.tar:a\.jpg: .*{reason}"):
            decode_crop(content, lambda h, w: (0, 0, 9, 9), 4, Image.BICUBIC, name="s.tar:a.jpg")


def test_broken_files_give_name_and_reason(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise))
    cases = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"no picture at all", "not an image"),
        "cut.png": (data[: len(data) // 2], "truncated|Truncated"),
        "header.png": (data[:20], ""),
        "flipped.png": (data[:100] + bytes(100) + data[200:], ""),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=f"{name}.*({reason})"):
            decode_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        decode_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"x\.tar:a\.jpg: the file is empty"):
        decode_image(b"", name="x.tar:a.jpg")


def test_decompression_bomb_is_refused(monkeypatch):
    data = encode(Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="exceeds limit"):
        decode_image(data, name="bomb")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 7), (5, 7, 3)),
        ((5, 7, 1), (5, 7, 3)),
        ((5, 7, 3), (5, 7, 3)),
        ((2, 5, 7), (2, 5, 7, 3)),
        ((2, 5, 7, 1), (2, 5, 7, 3)),
        ((2, 5, 7, 3), (2, 5, 7, 3)),
    ],
)
def test_to_rgb_shapes(shape, expected):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    result = to_rgb(array)
    assert result.shape == expected
    np.testing.assert_array_equal(result[..., 0], array.reshape(*expected[:-1], -1)[..., 0])


def test_to_rgb_values():
    np.testing.assert_array_equal(to_rgb(np.array([[True, False]]))[0, :, 0], [255, 0])
    np.testing.assert_array_equal(to_rgb(np.array([[3, 255]]))[0, :, 0], [3, 255])
    np.testing.assert_array_equal(to_rgb(np.array([[0.0, 1.0]]))[0, :, 0], [0, 255])
    for bad in ([[-1, 0]], [[0, 256]], [[np.nan, 0.5]]):
        with pytest.raises(ValueError, match="must lie in"):
            to_rgb(np.array(bad))
    with pytest.raises(ValueError, match="shape"):
        to_rgb(np.zeros((2, 5, 7, 4), np.uint8))
    with pytest.raises(ValueError, match="numbers"):
        to_rgb(np.array([["a"]]))
