"""Faults where images were moved, are given twice, or have other names than was thought."""

import logging

import numpy as np
import pytest
from mimzoo_training.online_probe import OnlineProbe
from mimzoo_training.recipes import get_recipe
from mimzoo_training.splits import at_most, open_asked, open_parts
from mimzoo_training.study.spec import study_of
from mimzoo_training.workdir import write_json
from PIL import Image

from mimzoo.data import ArraySource, open_label_maps, open_source, take_subset
from mimzoo.data.classes import match_classes
from mimzoo.data.images import decode_image
from mimzoo.data.named_subsets import read_scores
from mimzoo.data.voc_files import listed_splits
from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder

pytestmark = pytest.mark.one_backend


def write(folder, names=("a", "b"), count=10):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = np.full((8, 8), 20 * number, "uint8")
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def test_no_image_is_trained_on_and_validated_on(tmp_path, monkeypatch):
    photos = write(tmp_path / "photos")
    monkeypatch.setenv("HOME", str(tmp_path))
    train, held_out = open_parts("~/photos", str(photos))
    assert (len(train), len(held_out)) == (18, 2)
    write(tmp_path / "p" / "train")
    for pair in (("p/train", "p"), ("p", "p/train"), ("p/train", "p/train/a")):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match="are also trained on"):
            open_parts(*pair)
    write(tmp_path / "p" / "val")
    assert [len(part) for part in open_parts("p/train", "p/val")] == [20, 20]


def test_a_run_knows_its_images_wherever_they_are(tmp_path, recwarn):
    """Those held out are measured; a warning where images were trained on."""
    photos = write(tmp_path / "photos")
    moved = write(tmp_path / "moved")

    def asked(train, validation):
        run = {"root": str(photos), "fingerprint": train.fingerprint()}
        write_json(
            tmp_path / "recipe.json",
            {"run": {**run, "validation_fingerprint": validation.fingerprint()}},
        )
        found = [len(open_asked(str(folder), None, tmp_path)) for folder in (photos, moved)]
        said = [str(w.message).partition("trained on ")[2][:6] for w in recwarn.list]
        recwarn.clear()
        return found, said

    train, held_out = open_parts(str(photos))
    whole, other = open_source(photos, "all"), open_source(write(tmp_path / "x", count=3), "all")
    assert asked(train, held_out) == ([2, 2], [])
    assert asked(take_subset(train, count=8), held_out) == ([2, 2], [])
    assert asked(whole, other) == ([20, 20], ["these ", "these "])
    assert asked(take_subset(whole, count=8), other) == ([20, 20], ["a part"])
    write_json(tmp_path / "recipe.json", {"run": {"root": str(photos)}})  # of an earlier version
    assert len(open_asked(str(photos), None, tmp_path)) == 2
    assert len(open_asked(str(moved), None, tmp_path)) == 20


def test_numbered_folders_are_numbers(tmp_path):
    source = open_source(write(tmp_path / "n", map(str, range(11)), 1), "all")
    assert source.class_names[2] == "10"
    matched = match_classes(source, None, 11)
    names = [source.example_name(i).partition("/")[0] for i in range(11)]
    assert [str(label) for label in matched.labels] == names
    assert matched.class_names == tuple(map(str, range(11)))


def test_a_probe_goes_by_the_names_of_classes(tmp_path):
    images = np.zeros((42, 28, 28, 3), "uint8")
    labels = np.repeat([0, 1], [30, 12])
    train = ArraySource(images, labels, ("ant", "bee"))
    test = ArraySource(images, labels, ("bee", "ant"))
    backbone = ViTBackbone((28, 28, 3), patch_size=14, embed_dim=8, depth=1, num_heads=2)
    task = MAE(backbone, decoder=MAEDecoder(8, 1, 2))
    probe = OnlineProbe(task, get_recipe("vit_nano_mae_fmnist_20ep"), train, test, 10)
    (first, *_) = probe.probe.test
    assert first[1].tolist() == [1] * 30 + [0] * 12
    assert len(at_most(test, 20, 0)) == 20  # ten each
    assert np.bincount(at_most(test, 28, 0).labels).tolist() == [20, 8]
    wrong = ArraySource(images, labels, ("cat", "ant"))
    with pytest.raises(ValueError, match="the classifier does not know"):
        OnlineProbe(task, get_recipe("vit_nano_mae_fmnist_20ep"), train, wrong, 10)


def test_lists_of_voc_have_names_with_spaces():
    lists = {
        "ImageSets/Main/train.txt": b"\xef\xbb\xbfscan\nscan 2\nscan 3  1\n",
        "ImageSets/Main/val.txt": b"scan 4 -1\n\nscan 5\r\n",
    }
    assert listed_splits(lists, lists.__getitem__) == {
        **dict.fromkeys(("scan", "scan 2", "scan 3"), "train"),
        **dict.fromkeys(("scan 4", "scan 5"), "validation"),
    }


def write_maps(folder, numbers, exif=None):
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, values in enumerate(numbers):
        image = Image.new("RGB", (2, 1))
        image.save(folder / "images" / f"{number}.jpg", **({"exif": exif} if exif else {}))
        Image.fromarray(np.array([values], "uint8")).save(folder / "labels" / f"{number}.png")
    return folder


def test_masks_of_0_and_128_are_no_129_classes(tmp_path):
    folder = write_maps(tmp_path / "a", [(0, 128), (0, 0), (128, 0)])
    with pytest.raises(ValueError, match="hold 0, 128 alone: number classes 0, 1, 2"):
        open_label_maps(folder)
    assert open_label_maps(folder, num_classes=129).num_classes == 129
    assert open_label_maps(write_maps(tmp_path / "b", [(0, 7), (3, 3)])).num_classes == 8


def test_a_turned_image_with_a_label_map_is_told(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x0112] = 3
    source = open_label_maps(write_maps(tmp_path / "a", [(0, 1)] * 3, exif), "all")
    with caplog.at_level(logging.WARNING):
        for index in range(3):
            source.image(index)
    assert [r.message.partition(" is turned")[0][-5:] for r in caplog.records] == ["0.jpg"]
    caplog.clear()
    open_label_maps(write_maps(tmp_path / "b", [(0, 1)]), "all").image(0)
    assert not caplog.records


def test_tiff_of_32_bits_is_read_as_an_array_would_be(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 100], [200, 255]], "int32")).save(path)
    assert decode_image(path)[..., 0].tolist() == [[0, 100], [200, 255]]
    Image.fromarray(np.array([[0, 1_900_000]], "int32")).save(path)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.255"):
        decode_image(path)


def test_scores_of_a_spreadsheet(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("id,score\na,0.5\n", encoding="utf-8-sig")
    assert list(read_scores(path).values()) == [0.5]


def test_what_a_study_cannot_mean():
    model = {"m": {"recipe": "vit_nano_mae_fmnist"}}
    grid = [{"models": ["m"], "data": [1.0], "lengths": ["1it"]}]
    study = {"title": "a", "models": model, "grid": grid}
    twice = [{"labels": 10, "length": length} for length in ("1ep", "2ep")]
    for changes, message in (
        ({"validations": 0}, "validations must be at least 1"),
        ({"grid": grid[0]}, r"\[\[grid\]\], with two brackets"),
        ({"evaluate": {"finetune": twice}}, "another number of labels"),
    ):
        with pytest.raises(ValueError, match=message):
            study_of("a", {**study, **changes})
