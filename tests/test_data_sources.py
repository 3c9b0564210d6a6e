"""Sources: what lies where, in which order, of which class and split."""

import gzip
import io
import pathlib
import pickle
import tarfile
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from mimzoo.data import ArraySource, check_labels, open_source
from mimzoo.data import fashion_mnist as fm
from mimzoo.data.images import ImageError
from mimzoo.data.sources import Source


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (4, 3), value).save(buffer, "png")
    return buffer.getvalue()


def make_folder(root, names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return str(root)


def make_tar(path, names, prefix=""):
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(prefix + name)
            member.size = len(png(number))
            archive.addfile(member, io.BytesIO(png(number)))
    return str(path)


def values(source):
    return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


@pytest.fixture(params=["folder", "tar", "tar below a folder"])
def build(request, tmp_path):
    def make(names):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        if request.param == "folder":
            return make_folder(place, names)
        prefix = "./images/" if request.param == "tar below a folder" else ""
        return make_tar(place.with_suffix(".tar"), names, prefix)

    return make


# === Folders and archives ===


def test_unlabelled_images_are_found_recursively_and_sorted(build):
    names = ["b.png", "a/z.PNG", "a/deep/er/y.jpg", ".hidden.png", "a/.git/x.png", "notes.txt"]
    source = open_source(build(names), "all")
    assert [source.example_name(i) for i in range(3)] == ["a/deep/er/y.jpg", "a/z.PNG", "b.png"]
    assert values(source) == [2, 1, 0]
    assert not source.labelled
    assert source.class_names is None
    assert source.num_classes is None
    assert "label" not in source[0]
    with pytest.raises(ValueError, match="no labels"):
        _ = source.labels


def test_one_subfolder_per_class(build):
    source = open_source(build(["dog/1.png", "cat/sub/2.png", "cat/3.png"]), "all")
    assert source.class_names == ("cat", "dog")
    assert source.num_classes == 2
    assert source.labels.tolist() == [0, 0, 1]
    example = source[2]
    assert (example["label"], example["id"]) == (1, 2)
    assert type(example["label"]) is int
    assert example["image"].shape == (3, 4, 3)
    assert example["image"].dtype == np.uint8


@pytest.mark.parametrize("names", [["cat/1.png", "cat/2.png"], ["cat/1.png", "dog/2.png", "3.png"]])
def test_anything_else_has_no_labels(build, names):
    assert not open_source(build(names), "all").labelled


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_folders_of_splits(build, validation):
    folder = build(["train/a/1.png", "train/b/2.png", "train/c/3.png", f"{validation}/b/4.png"])
    train = open_source(folder)
    held = open_source(folder, "validation")
    assert train.labels.tolist() == [0, 1, 2]
    assert held.labels.tolist() == [1]
    assert held.class_names == train.class_names == ("a", "b", "c")
    assert values(held) == values(open_source(folder, "test")) == [3]
    with pytest.raises(ValueError, match="has the splits"):
        open_source(folder, "all")


def test_split_folders_that_do_not_fit(build):
    with pytest.raises(ValueError, match=r"zebra.*no class of train"):
        open_source(build(["train/a/1.png", "train/b/2.png", "val/zebra/3.png"]))
    with pytest.raises(ValueError, match=r"also extra\.png"):
        open_source(build(["train/1.png", "val/2.png", "extra.png"]))
    with pytest.raises(ValueError, match="both val and validation"):
        open_source(build(["train/1.png", "val/2.png", "validation/3.png"]))
    assert open_source(build(["train/1.png", "bus/2.png"]), "all").class_names == ("bus", "train")


def test_fetch_keeps_order(build):
    source = open_source(build([f"{i}.png" for i in range(5)]), "all")
    examples = source.fetch(np.array([3, 0, 3]))
    assert [example["id"] for example in examples] == [3, 0, 3]
    assert [example["image"][0, 0, 0] for example in examples] == [3, 0, 3]
    for index in (5, -1):
        with pytest.raises(IndexError, match=f"5 examples, no number {index}"):
            source[index]


def test_sources_travel_to_workers_and_threads(build):
    source = open_source(build([f"{i}.png" for i in range(8)]), "all")
    copy = pickle.loads(pickle.dumps(source))
    results = [None] * 4

    def read(slot):
        results[slot] = [values(copy) for _ in range(5)]

    threads = [threading.Thread(target=read, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[list(range(8))] * 5] * 4


def test_damaged_image_is_named(tmp_path):
    folder = make_folder(tmp_path / "d", ["a.png", "b.png"])
    (tmp_path / "d" / "a.png").write_bytes(b"junk")
    with pytest.raises(ImageError, match=r"d.a\.png"):
        open_source(folder, "all")[0]


def test_links_are_followed_without_going_round(tmp_path):
    make_folder(tmp_path / "real", ["x.png"])
    folder = tmp_path / "images"
    make_folder(folder, ["a/1.png"])
    (folder / "b").symlink_to(tmp_path / "real")
    (folder / "a" / "loop").symlink_to(folder)
    source = open_source(folder, "all")
    assert [source.example_name(i) for i in range(len(source))] == ["a/1.png", "b/x.png"]


def test_tar_writes_nothing_and_passes_over_what_is_no_file(tmp_path):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("../up.png", tarfile.REGTYPE), ("l.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(png(9)) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(png(9)))
        for name in ("a.png", "b.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(7))
            archive.addfile(member, io.BytesIO(png(7)))
    source = open_source(path, "all")
    assert [source.example_name(i) for i in range(len(source))] == ["a.png", "b.png"]
    assert values(source) == [7, 7]
    assert [entry.name for entry in tmp_path.iterdir()] == ["odd.tar"]


def test_bad_archives(tmp_path):
    (tmp_path / "no.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match=r"no\.tar.*uncompressed"):
        open_source(tmp_path / "no.tar")
    with tarfile.open(tmp_path / "z.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(ValueError, match="uncompressed"):
        open_source(tmp_path / "z.tar.gz")
    whole = make_tar(tmp_path / "whole.tar", [f"{i}.png" for i in range(40)])
    data = pathlib.Path(whole).read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: 1024 * 20 + 700])
    with pytest.raises(ValueError, match=r"cut\.tar.*complete"):
        open_source(tmp_path / "cut.tar")


# === Splits that are not there ===


def test_holdout_follows_from_names(tmp_path):
    names = [f"{i:03}.png" for i in range(200)]
    folder = make_folder(tmp_path / "a", names)
    train, held = open_source(folder), open_source(folder, "validation")
    inside = {train.example_name(i) for i in range(len(train))}
    outside = {held.example_name(i) for i in range(len(held))}
    assert inside | outside == set(names)
    assert not inside & outside
    assert 8 <= len(held) <= 34
    assert len(open_source(folder, "test")) == len(held)
    tar = make_tar(tmp_path / "a.tar", names, "below/")
    again = open_source(tar, "validation")
    assert {again.example_name(i) for i in range(len(again))} == outside
    # More files move none of the old ones.
    make_folder(tmp_path / "a", [f"new{i}.png" for i in range(50)])
    more = open_source(folder, "validation")
    kept = {more.example_name(i) for i in range(len(more))}
    assert {name for name in kept if not name.startswith("new")} == outside
    half = open_source(folder, "validation", holdout=0.5)
    assert {half.example_name(i) for i in range(len(half))} >= kept


def test_holdout_of_few_and_of_none(tmp_path):
    folder = make_folder(tmp_path / "a", ["1.png", "2.png"])
    assert len(open_source(folder)) == len(open_source(folder, "validation")) == 1
    assert len(open_source(folder, holdout=0)) == 2
    with pytest.raises(ValueError, match="no split 'validation'"):
        open_source(folder, "validation", holdout=0)
    with pytest.raises(ValueError, match="share in"):
        open_source(folder, holdout=1)
    single = make_folder(tmp_path / "b", ["1.png"])
    with pytest.raises(ValueError, match="holdout=0"):
        open_source(single)
    assert len(open_source(single, holdout=0)) == 1


def test_missing_things_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"unknown source 'cifar'.*embedded.*tfds:NAME"):
        open_source("cifar")
    with pytest.raises(ValueError, match=r"unknown split 'dev'.*validation"):
        open_source("embedded", "dev")
    (tmp_path / "readme.txt").write_text("no images")
    with pytest.raises(ValueError, match=r"no images in .*\.jpg"):
        open_source(tmp_path)


# === Arrays ===


def test_array_source():
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    source = ArraySource(images, [0, 2, 1, 1, 0, 2], name="mine")
    assert source.images.shape == (6, 5, 4, 3)
    assert source.num_classes == 3
    np.testing.assert_array_equal(source[4]["image"][..., 2], images[4])
    np.testing.assert_array_equal(source.images[[5, 1]][..., 0], images[[5, 1]])
    # One channel is stored, not three.
    assert len(pickle.dumps(source)) < 2 * images.nbytes + 1000
    part = source.take(np.array([0, 3]), "part")
    assert (part.labels.tolist(), part.num_classes) == ([0, 1], 3)
    with pytest.raises(ValueError, match=r"labels must have shape \(6,\)"):
        ArraySource(images, [0, 1])
    with pytest.raises(ValueError, match="N, H, W"):
        ArraySource(images[0])
    assert isinstance(source, Source)


def test_check_labels():
    check_labels(np.array([0, 4, 2]), 5)
    with pytest.raises(ValueError, match=r"label 5 at index 1 .*5 classes"):
        check_labels(np.array([0, 5, 9]), 5)
    with pytest.raises(ValueError, match="label -1 at index 0"):
        check_labels(np.array([-1, 5]), 5)
    with pytest.raises(ValueError, match="integers"):
        check_labels(np.array([0.5]), 5)
    with pytest.raises(ValueError, match="label 2 at index 1"):
        ArraySource(np.zeros((2, 4, 4), np.uint8), [0, 2], class_names=["a", "b"])


# === Fashion-MNIST ===


def test_embedded_splits():
    sizes = {"train": 100, "validation": 200, "test": 1000}
    seen = set()
    for split, per_class in sizes.items():
        source = open_source("embedded", split)
        assert source.images.shape == (10 * per_class, 28, 28, 3)
        assert np.bincount(source.labels).tolist() == [per_class] * 10
        assert source.class_names[9] == "Ankle boot"
        pictures = {image.tobytes() for image in source.images[..., 0]}
        assert not pictures & seen
        seen |= pictures
    first = open_source("embedded", "test")
    # The first test image of the official set: an ankle boot.
    assert first[0]["label"] == 9
    # CRC of the pixels in the official t10k-images-idx3-ubyte.
    assert zlib.crc32(np.ascontiguousarray(first.images[..., 0])) == 309494841


def write_idx(path, array):
    header = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def idx_folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 20)):
        write_idx(
            tmp_path / f"{prefix}-images-idx3-ubyte.gz",
            rng.integers(0, 256, (count, 28, 28), np.uint8),
        )
        write_idx(
            tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10
        )
    monkeypatch.setenv(fm.FOLDER_VARIABLE, str(tmp_path))
    fm.load.cache_clear()
    yield tmp_path
    fm.load.cache_clear()


def test_full_fashion_mnist(idx_folder):
    assert len(open_source("fashion_mnist")) == 30
    assert len(open_source("fashion_mnist", "test")) == 20
    # Without a split of its own, validation is the test set, unless a part is held out.
    assert len(open_source("fashion_mnist", "validation")) == 20
    held = open_source("fashion_mnist", "validation", holdout=0.3)
    assert 0 < len(held) < 20
    assert len(open_source("fashion_mnist", holdout=0.3)) == 30 - len(held)
    assert len(open_source("fashion_mnist", "test", holdout=0.3)) == 20


def test_damaged_fashion_mnist(idx_folder):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"train-images.*damaged"):
        open_source("fashion_mnist")
    write_idx(path, np.zeros((29, 28, 28), np.uint8))
    with pytest.raises(ValueError, match="do not fit"):
        open_source("fashion_mnist")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=fm.FOLDER_VARIABLE):
        open_source("fashion_mnist")


def test_no_fashion_mnist_at_all(monkeypatch):
    import keras

    def fail():
        raise Exception("no network")  # what Keras raises

    monkeypatch.delenv(fm.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(fm, "DEBIAN_FOLDER", "/does/not/exist")
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", fail)
    fm.load.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"no network.*'embedded'"):
        open_source("fashion_mnist")
