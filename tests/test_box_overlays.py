"""Pictures of boxes: what is drawn, in which colours."""

import numpy as np
import pytest
from box_files import NAMES, OBJECTS, picture
from mimzoo_training.box_overlays import draw_boxes, known_boxes, shown
from mimzoo_training.overlays import colours
from PIL import Image

from mimzoo.data import BoxedPictures
from mimzoo.data.objects import CROWD, Objects

pytestmark = pytest.mark.one_backend


def test_what_is_shown():
    boxes = {
        "boxes": np.arange(12.0).reshape(3, 4),
        "labels": np.array([0, 1, 1]),
        "confidence": np.array([0.4, 0.9, 0.2]),
    }
    found = shown(boxes)
    assert found["confidence"].tolist() == [0.9, 0.4]
    assert found["boxes"][:, 0].tolist() == [4, 0]
    assert shown(boxes, 0.1)["labels"].tolist() == [1, 0, 1]
    many = {name: np.repeat(values, 60, axis=0) for name, values in boxes.items()}
    assert len(shown(many)["labels"]) == 100
    known = known_boxes(Objects.of([[0, 0, 2, 2], [1, 1, 3, 3]], [0, 1], [CROWD, 0]))
    assert shown(known)["labels"].tolist() == [1]


def test_a_picture_has_the_colours_of_its_classes(tmp_path):
    source = BoxedPictures(
        [np.full((96, 128, 3), 255, "uint8")] * 2,
        [{"boxes": np.array([box[:4]]) * 4, "labels": [box[4]]} for box in OBJECTS[0]],
        2,
    )
    for number in range(2):
        known = known_boxes(source.objects(number))
        wrong = {**known, "labels": 1 - known["labels"], "confidence": np.array([0.1])}
        path = tmp_path / f"{number}.png"
        draw_boxes([[(source[number]["image"], known), (picture([]), wrong)]], "ab", NAMES, path)
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
        there = [(np.abs(pixels - colour).max(1) < 3).any() for colour in colours(2).astype(int)]
        assert there == [number == 0, number == 1]


def test_names_with_signs_of_mathematics(tmp_path):
    boxes = {"boxes": np.array([[1, 1, 5, 5]]), "labels": np.array([0])}
    draw_boxes([[(picture([]), boxes)]], ["a"], ["$5_{", "b"], tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[0] > 100
