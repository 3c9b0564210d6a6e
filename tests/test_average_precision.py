"""COCO's average precision, against numbers worked out by hand and pycocotools' own way in."""

import contextlib
import io
import math

import numpy as np
import pytest

from mimzoo.data import Objects
from mimzoo.data.objects import CROWD, DIFFICULT
from mimzoo.tasks.detection import AveragePrecision

pytest.importorskip("pycocotools")
pytestmark = pytest.mark.one_backend

KNOWN = [[0, 0, 100, 100], [200, 0, 300, 100]]
# The first exactly; nothing; the second cut to 62 of 100 columns, IoU 0.62.
FOUND = [[0, 0, 100, 100], [400, 400, 500, 500], [200, 0, 262, 100]]


def found(boxes, labels, scores):
    return {
        "boxes": np.array(boxes),
        "labels": np.array(labels),
        "confidence": np.array(scores),
    }


NOTHING = found(np.zeros((0, 4)), np.zeros(0, int), [])


def score(known, predictions, num_classes=1, names=None):
    scores = AveragePrecision(num_classes, names)
    scores.add(known, predictions)
    return scores.result()


def test_numbers_by_hand():
    """Precision 1 up to recall 1/2 (51 of 101 recalls), and up to IoU 0.6 then 2/3 (50 recalls)."""
    result = score(Objects.of(KNOWN, [0, 0]), found(FOUND, [0, 0, 0], [0.9, 0.8, 0.7]))
    loose, strict = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert result.ap50 == pytest.approx(loose)
    assert result.ap75 == pytest.approx(strict)
    assert result.ap == pytest.approx((3 * loose + 7 * strict) / 10)


def test_the_order_of_scores_counts():
    """The wrong one first: precision at most 1/2 up to recall 1/2, then 2/3, taken back to all."""
    result = score(Objects.of(KNOWN, [0, 0]), found(FOUND, [0, 0, 0], [0.8, 0.9, 0.7]))
    assert result.ap50 == pytest.approx(2 / 3)
    assert result.ap75 == pytest.approx(51 / 101 / 2)


def test_classes():
    predictions = found(FOUND, [0, 0, 2], [0.9, 0.2, 0.7])
    result = score(Objects.of(KNOWN, [0, 2]), predictions, 4, ("a", "b", "c", "d"))
    assert [row["name"] for row in result.classes] == ["a", "b", "c", "d"]
    assert [row["objects"] for row in result.classes] == [1, 0, 1, 0]
    assert [row["ap50"] for row in result.classes] == [1.0, None, 1.0, None]
    assert [row["ap75"] for row in result.classes] == [1.0, None, 0.0, None]
    assert result.ap == pytest.approx((1 + 0.3) / 2)


def test_difficult_objects_and_crowds_do_not_count():
    both = found(KNOWN, [0, 0], [0.9, 0.8])
    for kind in (DIFFICULT, CROWD):
        known = Objects.of(KNOWN, [0, 0], [0, kind])
        for predictions in (both, found(KNOWN[:1], [0], [0.9])):
            result = score(known, predictions)
            assert result.ap == pytest.approx(1)
            assert result.classes[0]["objects"] == 1
    # A crowd takes any number of predictions that lie in it, a difficult object one that fits.
    inside = found([*KNOWN, [205, 5, 220, 20]], [0, 0, 0], [0.7, 0.9, 0.8])
    assert score(Objects.of(KNOWN, [0, 0], [0, CROWD]), inside).ap == pytest.approx(1)
    assert score(Objects.of(KNOWN, [0, 0], [0, DIFFICULT]), inside).ap == pytest.approx(0.5)


def test_nothing_there_and_nothing_found():
    assert score(Objects.of(KNOWN, [0, 0]), NOTHING).ap == 0.0
    assert math.isnan(score(Objects.of([], []), NOTHING).ap)
    assert math.isnan(score(Objects.of([], []), found(KNOWN, [0, 0], [0.9, 0.8])).ap50)
    with pytest.raises(ValueError, match="no images were added"):
        AveragePrecision(2).result()
    with pytest.raises(ValueError, match=r"boxes must be \(N, 4\)"):
        score(Objects.of([], []), found(KNOWN, [0], [0.9]))
    with pytest.raises(ValueError, match="label 3 is no class: there are 1"):
        score(Objects.of([], []), found(KNOWN[:1], [3], [0.9]))


def test_many_images_are_those_of_pycocotools():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng, scores = np.random.default_rng(0), AveragePrecision(3)
    annotations, results = [], []
    for image in range(12):
        count = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 200, (count, 2)), rng.uniform(20, 80, (count, 2))
        known = Objects.of(np.concatenate([corner, corner + size], -1), rng.integers(0, 3, count))
        boxes = np.repeat(known.boxes, 2, axis=0) + rng.normal(0, 6, (2 * count, 4))
        labels = np.where(rng.random(2 * count) < 0.8, np.repeat(known.labels, 2), 1)
        values = rng.random(2 * count)
        scores.add(known, found(boxes, labels, values))
        for box, label in zip(known.boxes.tolist(), known.labels.tolist(), strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            row = {"image_id": image, "category_id": label, "bbox": [*box[:2], width, height]}
            row |= {"id": len(annotations) + 1, "area": width * height, "iscrowd": 0}
            annotations.append(row)
        for box, label, value in zip(boxes.tolist(), labels, values, strict=True):
            row = {"image_id": image, "category_id": int(label), "score": float(value)}
            results.append(row | {"bbox": [*box[:2], box[2] - box[0], box[3] - box[1]]})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(12)],
            "categories": [{"id": label} for label in range(3)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = scores.result()
    assert 0.1 < ours.ap < ours.ap50 < 0.95
    np.testing.assert_allclose([ours.ap, ours.ap50, ours.ap75], evaluation.stats[:3], rtol=1e-9)
