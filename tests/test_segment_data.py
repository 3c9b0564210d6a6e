"""Images with label maps: files, what numbers mean, and transforms that keep both aligned."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from mimzoo.data import (
    ArraySource,
    Compose,
    LabelledPictures,
    Loader,
    Photometric,
    RandomCropPad,
    RandomFlip,
    RandomResizedCrop,
    RandomScaleCrop,
    ResizeCrop,
    open_label_maps,
    take_subset,
)
from mimzoo.data.label_map_files import has_label_maps
from mimzoo.data.label_maps import IGNORED, class_table, decode_label_map
from mimzoo.data.random import uniform

pytestmark = pytest.mark.one_backend


def png(array, mode=None, **options) -> bytes:
    image = (
        Image.fromarray(np.asarray(array), mode) if not isinstance(array, Image.Image) else array
    )
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def numbers(height=6, width=8):
    return (np.arange(height * width) % 3).reshape(height, width).astype("uint8")


def write(root, names, size=(6, 8), labels=numbers):
    for name in names:
        image, label = (root / name.format(kind) for kind in ("images", "labels"))
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.full((*size, 3), len(name), "uint8")
        image.with_suffix(".jpg").write_bytes(png(picture))
        label.with_suffix(".png").write_bytes(png(labels()))
    return root


@pytest.fixture
def folder(tmp_path):
    names = [
        f"{split}/{{}}/{n}" for split, count in (("train", 3), ("val", 2)) for n in range(count)
    ]
    return write(tmp_path / "city", names)


def test_a_folder_and_a_tar_of_it(folder, tmp_path):
    source = open_label_maps(folder)
    assert (len(source), source.num_classes, source.kind) == (3, 3, "folder")
    image = source[1]["image"]
    assert image.shape == (6, 8, 4)
    np.testing.assert_array_equal(image[..., 3], numbers())
    assert source.example_name(1) == "train/images/1.jpg"
    with tarfile.open(tmp_path / "city.tar", "w") as tar:
        tar.add(folder, "city")
    packed = open_label_maps(tmp_path / "city.tar", "validation")
    assert (len(packed), packed.num_classes, packed.kind) == (2, 3, "tar")
    np.testing.assert_array_equal(packed[0]["image"][..., 3], numbers())
    assert (
        len({s.fingerprint() for s in (source, packed, open_label_maps(folder, "val" + "idation"))})
        == 3
    )
    assert open_label_maps(folder, num_classes=4).fingerprint() != source.fingerprint()


def test_what_seems_to_have_label_maps(folder, tmp_path):
    with tarfile.open(tmp_path / "city.tar", "w") as tar:
        tar.add(folder, "city")
    assert has_label_maps(folder)
    assert has_label_maps(str(tmp_path / "city.tar"))
    for other in (folder / "train/images", tmp_path / "gone", "embedded", np.zeros(3)):
        assert not has_label_maps(other)
    for images in folder.glob("*/images"):
        images.rename(images.with_name("JPEGImages"))
    assert has_label_maps(folder)
    assert len(open_label_maps(folder)) == 3


def test_splits_inside_and_none(tmp_path):
    write(tmp_path / "ade", ["{}/training/a", "{}/training/b", "{}/validation/c"])
    assert len(open_label_maps(tmp_path / "ade")) == 2
    assert len(open_label_maps(tmp_path / "ade", "test")) == 1
    write(tmp_path / "plain", [f"{{}}/{n}" for n in range(20)])
    parts = [open_label_maps(tmp_path / "plain", split) for split in ("train", "validation")]
    assert sum(map(len, parts)) == 20
    assert all(part.dense and part.num_classes == 3 for part in parts)
    assert take_subset(parts[0], count=5)[0]["image"].shape == (6, 8, 4)


def test_names_of_classes_and_what_numbers_mean(folder):
    (folder / "classes.txt").write_text("sky\nroad\ncar\n")
    assert open_label_maps(folder).class_names == ("sky", "road", "car")
    with pytest.raises(ValueError, match="names 3 classes, and num_classes is 4"):
        open_label_maps(folder, num_classes=4)
    (folder / "classes.txt").write_bytes(b"\xef\xbb\xbfsky\r\nroad\r\n car \r\n\r\n")
    assert open_label_maps(folder).class_names == ("sky", "road", "car")
    for text in ("sky\n\nroad\ncar\n", "sky\n \t\nroad\n"):
        (folder / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=r"^classes\.txt: line 2 is blank, so class 1 has no"):
            open_label_maps(folder)
    (folder / "classes.txt").unlink()
    source = open_label_maps(folder, ignore_index=2)
    assert source.num_classes == 2
    assert set(source[0]["image"][..., 3].flat) == {0, 1, IGNORED}
    shifted = open_label_maps(folder, first_class=1)
    assert shifted.num_classes == 2
    np.testing.assert_array_equal(shifted[0]["image"][..., 3], np.array([IGNORED, 0, 1])[numbers()])
    with pytest.raises(ValueError, match="too few for 255 classes from 1 on"):
        class_table(255, first_class=1)


@pytest.mark.parametrize("ignore_index", [2, 255, 256, 300, -100])
def test_any_integer_may_be_ignored(ignore_index, folder):
    kept = np.where(numbers() == 2, IGNORED, numbers())
    maps = np.where(kept == IGNORED, ignore_index, kept.astype("int32"))
    source = LabelledPictures(np.zeros((1, 6, 8, 3), "uint8"), maps[None], 2, ignore_index)
    np.testing.assert_array_equal(source[0]["image"][..., 3], kept)
    source = open_label_maps(folder, ignore_index=ignore_index)
    assert source.num_classes == (2 if ignore_index == 2 else 3)


def test_every_kind_of_label_png():
    values = numbers()
    palette = Image.fromarray(values, "P")
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    for data in (
        png(values),
        png(palette),
        png(palette, bits=2),
        png(values.astype("uint16")),
        grey_of_bits(values, 2),
        grey_of_bits(values, 4),
    ):
        np.testing.assert_array_equal(decode_label_map(data, "a.png"), values)
    np.testing.assert_array_equal(decode_label_map(png(values > 1), "a.png"), values > 1)
    for mode in ("RGBA", "RGB", "LA"):
        with pytest.raises(ValueError, match=rf"a\.png is a picture of mode {mode}, no label map"):
            decode_label_map(png(Image.new(mode, (3, 3))), "a.png")
    with pytest.raises(ValueError, match="has the number 300"):
        decode_label_map(png(np.full((2, 2), 300, "uint16")), "a.png")


def grey_of_bits(values, bits):
    """A PNG that Pillow itself does not write: grey of 2 or 4 bits a pixel."""
    import struct
    import zlib

    height, width = values.shape
    rows = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in np.packbits(rows, axis=-1))

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_what_is_refused_names_the_file(folder, tmp_path):
    wrong = folder / "train/labels/1.png"
    source = open_label_maps(folder, num_classes=3)
    wrong.write_bytes(png(np.full((6, 8), 7, "uint8")))
    with pytest.raises(ValueError, match=r"1\.png has pixels of number 7, which is no class: 3 cl"):
        Loader(source, 3).batch(0)
    wrong.write_bytes(png(numbers(5, 8)))
    with pytest.raises(ValueError, match=r"1\.png has 8 x 5 pixels and its image 8 x 6"):
        Loader(source, 3).batch(0)
    wrong.unlink()
    with pytest.raises(ValueError, match=r"1 files have no label map, such as train/images/1\.jpg"):
        open_label_maps(folder)
    (folder / "train/images/1.jpg").unlink()
    (folder / "train/images/0.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 files have no image, such as train/labels/0\.png"):
        open_label_maps(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no label maps: put images into images/"):
        open_label_maps(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        open_label_maps(tmp_path / "gone")


def coordinates(height=40, width=50):
    """An image that shows in each pixel where it is, and its label map, which shows the same."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, rows * 0], axis=-1).astype("uint8")
    return np.concatenate([image, (rows // 4 * 16 + columns // 4)[..., None].astype("uint8")], -1)


TRANSFORMS = [
    RandomScaleCrop((16, 24), max_share=1.0),
    RandomScaleCrop((16, 24), (0.5, 0.5)),
    RandomScaleCrop((60, 70), (1.0, 2.0)),
    RandomScaleCrop((16, 24), (1.0, 1.0), shorter_side=20),
    Compose([RandomScaleCrop((16, 24)), RandomFlip(1.0), Photometric(0.0, (1, 1), (1, 1), 0.0)]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_label_maps_stay_aligned(transform):
    image = coordinates()
    for u in uniform(0, 0, np.arange(8), transform.draws, stream="augment"):
        result = transform(image, u)
        learned = result[..., 3] != IGNORED
        rows, columns = (result[..., n][learned].astype(int) for n in (0, 1))
        label = result[..., 3][learned].astype(int)
        # A pixel and its class are less than a block of 4 apart, at its border one more.
        assert (np.abs(rows // 4 - label // 16) <= 1).all()
        assert (np.abs(columns // 4 - label % 16) <= 1).all()
        inside = (rows % 4 > 0) & (rows % 4 < 3) & (columns % 4 > 0) & (columns % 4 < 3)
        assert (rows[inside] // 4 == label[inside] // 16).all()
        assert (columns[inside] // 4 == label[inside] % 16).mean() > 0.9
        if not learned.all():
            assert (result[..., :3][~learned] == RandomScaleCrop((1, 1)).fill).all()


def test_transforms_without_a_rule_for_label_maps():
    maps = 2 * np.ones((2, 40, 50), "uint8")
    source = LabelledPictures(np.zeros((2, 40, 50, 3), "uint8"), maps, 3)
    for transform in (RandomResizedCrop(8), RandomCropPad(8), ResizeCrop(8)):
        name = type(transform).__name__
        for given in (transform, Compose([RandomFlip(), Compose([transform])])):
            with pytest.raises(ValueError, match=f"{name} has no rule for label maps: use Ra"):
                Loader(source, 2, transform=given)
    with pytest.raises(ValueError, match="batch_transform would leave label maps as they are"):
        Loader(source, 2, batch_transform=[lambda batch, seed: batch])

    class Turned(RandomFlip):
        def __call__(self, image, u):
            return image[::-1]

    assert (Loader(source, 2, transform=Turned()).batch(0)[1] == 2).all()


def test_pretraining_reads_the_images_alone():
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), "uint8")
    maps = np.arange(4, dtype="uint8")[:, None, None] * np.ones((20, 30), "uint8")
    options = {"transform": RandomResizedCrop(8), "draw": lambda indices, epoch: {"n": indices}}
    batches = [
        Loader(source, 4, **options).batch(0)
        for source in (ArraySource(images), LabelledPictures(images, maps, 4))
    ]
    for name in ("images", "n"):
        np.testing.assert_array_equal(batches[1][name], batches[0][name])


def test_without_scaling_it_is_a_cut():
    image = coordinates()
    transform = RandomScaleCrop((16, 24), (1.0, 1.0), max_share=1.0)
    seen = set()
    for u in uniform(1, 0, np.arange(50), transform.draws):
        result = transform(image, u)
        top, left = result[0, 0, :2].tolist()
        np.testing.assert_array_equal(result, image[top : top + 16, left : left + 24])
        seen.add((top, left))
    assert len(seen) > 40
    np.testing.assert_array_equal(transform(image[:16, :24], u), image[:16, :24])


def test_windows_of_one_class_are_drawn_again():
    image = np.zeros((100, 100, 4), "uint8")
    image[:, 90:, 3] = 1
    transform = RandomScaleCrop((20, 20), (1.0, 1.0))
    draws = uniform(0, 0, np.arange(40), transform.draws)
    mixed = np.mean([transform(image, u)[..., 3].any() for u in draws])
    plain = RandomScaleCrop((20, 20), (1.0, 1.0), max_share=1.0)
    assert mixed > 2 * np.mean([plain(image, u)[..., 3].any() for u in draws])


def test_photometric_changes_colours_alone():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 4), "uint8")
    transform = Photometric()
    results = [transform(image, u) for u in uniform(0, 0, np.arange(32), transform.draws)]
    assert all((result[..., 3] == image[..., 3]).all() for result in results)
    changed = np.mean([(result != image).any() for result in results])
    assert 0.8 < changed <= 1.0
    same = transform(image, np.full(9, 0.9))
    np.testing.assert_array_equal(same, image)


def test_batches_follow_from_seed_epoch_and_example():
    images = np.random.default_rng(0).integers(0, 256, (7, 30, 40, 3), "uint8")
    maps = np.random.default_rng(1).integers(0, 3, (7, 30, 40), "uint8")
    transform = Compose([RandomScaleCrop((16, 24)), RandomFlip(), Photometric()])

    def loader(batch_size, **options):
        source = LabelledPictures(images, maps, 3)
        return Loader(source, batch_size, transform=transform, seed=3, epochs=None, **options)

    one, two = loader(3), loader(3, start_step=4)
    for step, batch in zip(range(4, 7), two, strict=False):
        for ours, theirs in zip(one.batch(step), batch, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    images_of, maps_of = one.batch(0)
    assert (images_of.shape, images_of.dtype) == ((3, 16, 24, 3), np.float32)
    assert (maps_of.shape, maps_of.dtype) == ((3, 16, 24), np.int32)
    single = loader(1).batch(0)
    np.testing.assert_array_equal(single[1][0], maps_of[0])
    halves = [loader(6, shard=(number, 2)).batch(0) for number in (0, 1)]
    for whole, *parts in zip(loader(6).batch(0), *halves, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(parts))
