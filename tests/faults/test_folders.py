"""Folders as people have them: other names of splits, files that cannot be read, bad labels."""

import json
import logging
import os

import numpy as np
import pytest
from mimzoo_training.cli import main
from PIL import Image
from shard_files import png

from mimzoo.data import (
    ArraySource,
    Subset,
    decode_image,
    formats,
    match_classes,
    open_source,
    take_subset,
)
from mimzoo.data import fingerprint as fingerprints
from mimzoo.data.images import ImageError
from mimzoo.data.in_memory import ListSource, ReadySource

pytestmark = pytest.mark.one_backend


@pytest.fixture
def folder(tmp_path):
    def make(*names, at="data"):
        for number, name in enumerate(names):
            path = os.path.join(os.fsencode(tmp_path / at), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(png(number))
        return tmp_path / at

    return make


def listed(source):
    return [source.example_name(i) for i in range(len(source))]


# === Splits ===


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("train", "valid", "validation"),
        ("Train", "Val", "validation"),
        ("training", "testing", "test"),
        ("trainval", "test", "test"),
        ("train", "holdout", "validation"),
        ("TRAIN", "dev", "validation"),
        ("train", "Eval", "validation"),
        ("training_set", "test_set", "test"),
        ("train2017", "val2017", "validation"),
        ("Training Images", "Evaluation Images", "validation"),
        ("photos/train", "photos/valid", "validation"),
    ],
)
def test_held_out_images_are_never_trained_on(folder, train, other, split):
    root = folder(f"{train}/a/1.png", f"{train}/b/2.png", f"{other}/a/3.png")
    source, held = open_source(root), open_source(root, split)
    assert source.class_names == held.class_names == ("a", "b")
    assert listed(source) == [f"{train}/a/1.png", f"{train}/b/2.png"]
    assert listed(held) == [f"{other}/a/3.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/1.png", "valid/2.png", "val/3.png"], "both val and valid, which mean validation"),
        (["Train/1.png", "train/2.png", "test/3.png"], "both Train and train"),
        (["seg_train/a/1.png", "seg_test/a/2.png"], "seg_test, seg_train, which look like splits"),
        (["train/1.png", "valid/2.png", "unseen/3.png"], r"also unseen/3\.png; move it away"),
        (["train/a/1.png", "train/b/2.png", "leftover/a/3.png"], "beside it leftover: name"),
        (["train/a/1.png", "train/b/2.png", "unlabeled/3.png"], "beside it unlabeled"),
        (["d/train/a/1.png", "d/train/b/2.png", "d/query/a/3.png"], "beside it query"),
        (["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"], "test, train inside of each"),
    ],
)
def test_splits_that_are_mixed_up_are_refused(folder, names, message):
    with pytest.raises(ValueError, match=message):
        open_source(folder(*names))


@pytest.mark.parametrize(
    "classes", [("bus", "train"), ("invalid", "valid"), ("test_tube", "train_station", "x", "y")]
)
def test_classes_may_be_called_like_splits(folder, classes):
    root = folder(*(f"{name}/1.png" for name in classes))
    assert open_source(root, "all").class_names == classes


# === Which files are images ===


def test_every_suffix_that_pillow_opens_is_an_image(folder):
    suffixes = formats.readable_suffixes()
    assert {".jfif", ".jpe", ".avif", ".webp", ".jp2", ".mpo", ".jpg", ".PNG".lower()} <= suffixes
    # The fixed list, which an index of shards goes by, has them all.
    assert suffixes <= formats.SUFFIXES
    names = [f"{end[1:]}/1{end.upper()}" for end in sorted(suffixes)]
    assert sorted(open_source(folder(*names), "all").class_names) == sorted(
        end[1:] for end in suffixes
    )
    assert not {".h5", ".mpg", ".eps", ".pdf"} & suffixes


def test_no_file_starts_another_program():
    assert not {"EPS", "WMF", "MPEG", "HDF5"} & set(formats.decoders())
    with pytest.raises(ImageError, match=r"a\.jpg: not an image"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", name="a.jpg")


def test_a_class_never_vanishes(folder, caplog):
    root = folder("a/1.png", "b/2.heic", "b/3.png", "c/4.nef", "c/5.png")
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        source = open_source(root, "all")
    assert listed(source) == ["a/1.png", "b/3.png", "c/5.png"]
    assert caplog.messages == [
        f"{root}: 2 images are left out: b/2.heic (Pillow reads it only with the package "
        "pillow-heif, registered before); c/4.nef (Pillow here does not read .nef)"
    ]
    assert set(source.skipped) == {"b/2.heic", "c/4.nef"}
    (root / "b" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"no image in b can be read, .*b/2\.heic: .*pillow-heif"):
        open_source(root, "all")
    with pytest.raises(ValueError, match=r"no images in .* that can be read: 1\.heic"):
        open_source(folder("1.heic", at="other"))
    with pytest.raises(ImageError, match="pillow-heif"):
        decode_image(b"\0\0\0\x18ftypheic", name="1.heic")


def test_a_folder_that_gives_no_class_is_named(folder, caplog):
    root = folder("a/1.png", "b/2.png", "text/notes.txt", "bare/3", "a/notes/x.txt")
    (root / "none").mkdir()
    (root / "again").symlink_to(root / "b")
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        source = open_source(root, "all")
    assert source.class_names == ("a", "again")  # of two names of a folder the first
    assert dict(source.skipped) == {
        "b/": "a link to a folder that is read already",
        "bare/": "it has no image",
        "none/": "an empty folder",
        "text/": "it has no image",
    }
    assert f"{root}: not every folder is a class: b/ (a link to" in caplog.text
    assert main(["doctor", str(root)]) == 1


def test_a_few_images_outside_of_the_classes_are_named(folder, caplog):
    root = folder(*(f"{name}/{n}.png" for name in "ab" for n in range(10)), "cover.png")
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        assert not open_source(root, "all").labelled
    assert "no labels, as not every image lies in a folder of a class: cover.png" in caplog.text


def test_classes_that_look_like_splits_are_named(folder, caplog):
    root = folder(*(f"{fold}/{name}/1.png" for fold in ("fold1", "fold2") for name in "ab"))
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        open_source(root, "all")
    assert "fold1, fold2 are taken for classes, but all of them hold the same" in caplog.text


def test_accents_are_the_same_on_every_system(folder):
    apart, composed = "e\u0301te", "\u00e9te"
    root = folder(f"train/{apart}/1.png", "train/b/2.png", f"val/{composed}/3.png")
    assert open_source(root, "validation").class_names == ("b", composed)
    source = open_source(folder(f"{apart}/1.png", "b/2.png", at="mac"), "all")
    assert match_classes(source, (apart, "b")).labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"has two folders .te, whose names differ in their bytes"):
        open_source(folder(f"{apart}/1.png", f"{composed}/2.png", at="both"), "all")


def test_a_folder_of_tars_is_a_set_of_shards(tmp_path):
    (tmp_path / "0.tar").write_bytes(bytes(1024))
    with pytest.raises(ValueError, match=rf"for its \.tar: shards:{tmp_path}"):
        open_source(tmp_path)


def test_a_plugin_is_used_when_it_is_registered(folder, monkeypatch):
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")
    assert len(open_source(folder("1.heic"), "all")) == 1


def test_a_folder_that_cannot_be_read_is_an_error(folder, monkeypatch):
    root = folder("a/1.png", "b/2.png", ".git/3.png", "lost+found/4.png")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) in ("b", ".git", "lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"the folder .*/b cannot be read \(Permission denied\)"):
        open_source(root)


def test_pipes_and_devices_are_never_read(folder, caplog):
    root = folder("1.png", "2.png")
    os.mkfifo(root / "a.jpg")
    (root / "b.jpg").symlink_to("/dev/zero")
    (root / "c.jpg").symlink_to("nowhere")
    (root / "d.jpg").symlink_to(root / "1.png")
    (root / "e.txt").symlink_to("/dev/zero")
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        source = open_source(root, "all")
    assert listed(source) == ["1.png", "2.png", "d.jpg"]
    assert "3 images are left out: a.jpg (a pipe); b.jpg (a device or socket" in caplog.text
    assert "c.jpg (a link that cannot be followed: No such file" in caplog.text
    # Also one that took a file's place later, or that is named on its own.
    (root / "2.png").unlink()
    os.mkfifo(root / "2.png")
    for name in ("2.png", "b.jpg"):
        with pytest.raises(ImageError, match=rf"{name}: not a regular file"):
            decode_image(root / name)
    with pytest.raises(ImageError, match="not a regular file"):
        source[1]


def test_names_that_are_not_utf8(folder, capsys):
    root = folder(b"caf\xe9/1.png", b"th\xe9/\xff2.png", b"th\xe9/3.png", "x/4.png")
    source = open_source(root, holdout=0.5)
    held = open_source(root, "validation", holdout=0.5)
    assert len(source) + len(held) == 4
    whole = open_source(root, "all")
    assert whole.class_names == (r"caf\xe9", r"th\xe9", "x")
    print(whole, *whole.class_names, json.dumps(whole.describe(), ensure_ascii=False))
    with open(os.path.join(os.fsencode(root), b"caf\xe9/1.png"), "wb") as file:
        file.write(b"junk")
    with pytest.raises(ImageError, match=r"caf\\xe9/1.png: not an image"):
        whole[0]


# === Labels ===


@pytest.mark.parametrize("label", [2**40, 2**31 - 1, 2**20])
def test_labels_that_cannot_be_are_named(label):
    images = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(ValueError, match=rf"mine: label {label} at index 1 .*at most 1048576"):
        ArraySource(images, [0, label, 1], name="mine")
    with pytest.raises(ValueError, match=f"label {label} at index 1"):
        ArraySource(images, np.array([0, label, 1], np.uint64), class_names=["a", "b"])


# === Classes by name ===


def labelled(labels, names):
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    return ArraySource(images, labels, names, "mine")


def test_classes_are_matched_by_name(folder):
    source = open_source(folder("b/1.png", "c/2.png"), "all")
    found = match_classes(source, ["c", "a", "b"])
    assert found.class_names == ("c", "a", "b")
    assert (found.labels.tolist(), found.num_classes) == ([2, 0], 3)
    assert [e["label"] for e in found.fetch([0, 1])] == [2, 0]
    assert source.labels.tolist() == [0, 1]
    assert match_classes(source, ["b", "c"]) is source
    array = match_classes(labelled([0, 1, 1], ["x", "y"]), ("y", "x"))
    assert isinstance(array, ArraySource)
    assert array.labels.tolist() == [1, 0, 0]
    part = match_classes(Subset(source, [1]), ["c", "a", "b"])
    assert part[0]["label"] == 0


def test_classes_that_do_not_match_are_listed(folder):
    source = open_source(folder("cat/1.png", "zebra/2.png"), "all")
    with pytest.raises(ValueError, match=r"\(zebra\).*are cat, zebra; the classifier's are cat, d"):
        match_classes(source, ["cat", "dog"])
    with pytest.raises(ValueError, match=r"has 2 classes .* the classifier 3 without names"):
        match_classes(source, None, 3)
    assert match_classes(source, None, 2) is source
    with pytest.raises(ValueError, match="no labels"):
        match_classes(ArraySource(np.zeros((2, 4, 4), np.uint8)), ["a"])


def test_numbers_without_names_have_to_fit():
    source = labelled([0, 2], None)
    assert match_classes(source, ["a", "b", "c", "d"]) is source
    assert match_classes(source, None, 3) is source
    with pytest.raises(ValueError, match=r"mine: label 2 at index 1 is out of range: 2 classes"):
        match_classes(source, ["a", "b"])


def test_imagenet_by_its_numbers_or_names():
    wordnet = labelled([0, 1], [f"n{n:08}" for n in range(1000)])
    assert match_classes(wordnet, "imagenet") is wordnet
    named = labelled([0, 1], ["goldfish", "tench"])
    assert match_classes(named, "imagenet").labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="n00000000"):
        match_classes(labelled([0, 1], ["n00000000", "n00000001"]), "imagenet")


# === Fingerprints ===


def test_a_source_describes_itself(folder):
    source = open_source(folder("a/1.png", "b/2.png"), "all")
    found = json.loads(json.dumps(source.describe()))
    before = found.pop("fingerprint")
    assert before == source.fingerprint()
    assert found == {
        "kind": "folder",
        "root": str(folder()),
        "name": "data",
        "count": 2,
        "num_classes": 2,
        "classes": ["a", "b"],
    }
    assert len(before) == 32
    # The same elsewhere and later; another one for other images of the same names.
    os.utime(folder() / "a" / "1.png", (1, 1))
    elsewhere = open_source(folder("a/1.png", "b/2.png", at="x"), "all")
    assert source.fingerprint() == elsewhere.fingerprint() == before
    (folder() / "a" / "1.png").write_bytes(png(0) + b"more")
    assert open_source(folder(), "all").fingerprint() != before
    part = Subset(source, [1])
    assert part.describe()["count"] == 1
    assert part.describe()["root"] == str(folder())
    assert part.fingerprint() != Subset(source, [0]).fingerprint()


def test_fingerprints_of_arrays(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 6, 5), np.uint8), rng.integers(0, 4, 50)
    source = ArraySource(images, labels)
    prints = [
        source.fingerprint(),
        ArraySource(images).fingerprint(),
        ArraySource(images, labels[::-1]).fingerprint(),
        ArraySource(images.reshape(50, 5, 6), labels).fingerprint(),
        ArraySource(np.where(images == images[-1, 0, 0], 0, images), labels).fingerprint(),
        take_subset(source, share=0.8).fingerprint(),
    ]
    assert len(set(prints)) == 6
    assert prints[0] == ArraySource(images.copy(), labels.astype(np.uint8)).fingerprint()
    sources = [*(f(images) for f in (ListSource, ReadySource, ArraySource)), ListSource(images[1:])]
    prints = [source.fingerprint() for source in sources]
    assert len({*prints, *(f(images ^ 1).fingerprint() for f in (ListSource, ReadySource))}) == 6
    assert prints[:2] == [f(images.copy()).fingerprint() for f in (ListSource, ReadySource)]
    # Of large arrays a sample.
    monkeypatch.setattr(fingerprints, "MAX_HASHED", 100)
    assert fingerprints.hash_array(images) == fingerprints.hash_array(images.copy())
    assert fingerprints.hash_array(images) != fingerprints.hash_array(images[:49])
    # Never changes between versions: it is part of runs.
    monkeypatch.undo()
    known = "83a1427ad80bac6c017879e1408ebe6f"
    assert open_source("embedded", "test").fingerprint() == known
