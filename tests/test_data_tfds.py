"""TensorFlow Datasets: a tiny prepared data set, and what is said where there is none."""

import pickle
import sys

import numpy as np
import pytest
from box_files import HEIGHT, OBJECTS, WIDTH, picture

from mimzoo.data import Loader, match_classes, open_boxes, open_source
from mimzoo.data.objects import CROWD

tfds = pytest.importorskip("tensorflow_datasets")


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(names=["x", "y", "z"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(12), "test": self._generate_examples(5)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((4, 4, 1), i, np.uint8), "label": i % 3}


class TinyNumbers(TinyPictures):
    def _info(self):
        features = tfds.features.FeaturesDict({"number": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"number": i}


class TinyBoxes(TinyPictures):
    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=["bar", "dot"]),
                    "is_crowd": np.bool_,
                }
            ),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for number, objects in enumerate(OBJECTS):
            rows = [
                {
                    "bbox": tfds.features.BBox(y1 / HEIGHT, x1 / WIDTH, y2 / HEIGHT, x2 / WIDTH),
                    "label": label,
                    "is_crowd": number == 1,
                }
                for x1, y1, x2, y2, label in objects
            ]
            yield number, {"image": picture(objects), "objects": rows}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of prepared data sets: with labels, without images, and with boxes."""
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (TinyPictures, TinyNumbers, TinyBoxes):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def look_in(folder, monkeypatch):
    # What TFDS_DATA_DIR sets; the library reads it once, when it is imported.
    from tensorflow_datasets.core import constants

    monkeypatch.setattr(constants, "DATA_DIR", str(folder))


def test_boxes_of_a_prepared_data_set(prepared, monkeypatch):
    look_in(prepared, monkeypatch)
    source = open_boxes("tfds:tiny_boxes")
    assert (len(source), source.class_names, source.kind) == (4, ("bar", "dot"), "tfds")
    order = [int(source[index]["image"].astype(int).sum()) for index in range(4)]
    for number, objects in enumerate(OBJECTS):
        found = source.objects(order.index(int(picture(objects).astype(int).sum())))
        rows = zip(found.boxes.tolist(), found.labels.tolist(), strict=True)
        known = {tuple(row[:4]): row[4] for row in objects}
        assert {tuple(np.round(box)): label for box, label in rows} == known
        assert (found.kinds == CROWD).tolist() == [number == 1] * len(objects)
    other = open_boxes("tfds:tiny_boxes", class_names=("dot", "bar"))
    labels = [source.objects(index).labels for index in range(4)]
    for index in range(4):
        np.testing.assert_array_equal(other.objects(index).labels, 1 - labels[index])
    with pytest.raises(ValueError, match="tfds:tiny_pictures has no feature 'objects'"):
        open_boxes("tfds:tiny_pictures")


def test_a_prepared_data_set(prepared, monkeypatch):
    look_in(prepared, monkeypatch)
    source = open_source("tfds:tiny_pictures")
    assert len(source) == 12
    assert source.class_names == ("x", "y", "z")
    assert source.num_classes == 3
    example = source[7]
    assert example["image"].shape == (4, 4, 3)
    assert example["label"] == example["image"][0, 0, 0] % 3
    copy = pickle.loads(pickle.dumps(source))
    assert copy.labels.tolist() == [example["label"] for example in source.fetch(range(12))]
    images, labels = next(iter(Loader(source, 4, labels=True)))
    np.testing.assert_array_equal(images[:, 0, 0, 0] % 3, labels)
    test = open_source("tfds:tiny_pictures", "test")
    assert len(test) == 5
    assert source.describe()["kind"] == "tfds"
    assert copy.fingerprint() == source.fingerprint() != test.fingerprint()
    matched = match_classes(source, ["z", "y", "x"])
    assert [example["label"] for example in matched.fetch(range(12))] == matched.labels.tolist()
    assert matched.labels.tolist() == (2 - source.labels).tolist()
    assert len(open_source("tfds:tiny_pictures:1.0.0", "validation")) == 5
    with pytest.raises(ValueError, match="no feature 'image', only number"):
        open_source("tfds:tiny_numbers")
    with pytest.raises(ValueError, match="no data set 'nope'"):
        open_source("tfds:nope")


def test_a_data_set_that_is_not_there(prepared, monkeypatch, tmp_path):
    look_in(tmp_path, monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"not prepared.*download_and_prepare"):
        open_source("tfds:tiny_pictures")


def test_tfds_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"mimzoo\[tfds\]"):
        open_source("tfds:cifar10")
