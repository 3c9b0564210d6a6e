"""COCO's average precision, computed by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimzoo.data.objects import CROWD, DIFFICULT, Objects

MAX_DETECTIONS = 100  # of an image and class, COCO's number
_LARGEST = 1e10  # COCO's upper end of all areas
# Outside of all areas: pycocotools counts such an object neither as found nor as missed.
_NOT_COUNTED = -1.0


class DetectionScores(NamedTuple):
    """Average precision, in [0, 1]; NaN where no object counts.

    Attributes:
        ap: mean over the IoU thresholds 0.5, 0.55, … 0.95 and the classes that occur.
        ap50: at the threshold 0.5.
        ap75: at 0.75.
        classes: {"name", "objects", "ap", "ap50", "ap75"} of each class; None where none occurs.
    """

    ap: float
    ap50: float
    ap75: float
    classes: list[dict[str, Any]]


class AveragePrecision:
    """Collects predictions, image by image, and gives COCO's average precision.

    Crowds and difficult objects are neither found nor missed; any number of predictions may lie in
    a crowd. Of an image and class the 100 predictions with the highest scores count.

    Args:
        num_classes: of the labels.
        class_names: what they are called; default: their numbers.

    Raises:
        ImportError: pycocotools is not installed.
    """

    def __init__(self, num_classes: int, class_names: Sequence[str] | None = None) -> None:
        try:
            import pycocotools  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "average precision needs pycocotools; install it with "
                "pip install 'mimzoo[detection]'"
            ) from error
        self.names = [str(name) for name in class_names or range(num_classes)]
        self.num_classes = num_classes
        self.count = 0
        self._known: list[dict] = []
        self._found: list[dict] = []

    def add(self, objects: Objects, predictions: Mapping[str, Any]) -> None:
        """Counts an image.

        Args:
            objects: what is there.
            predictions: what a detector predicts for one image: {"boxes": (N, 4), "labels": (N,),
                "confidence": (N,)}, corners in the same pixels.

        Raises:
            ValueError: boxes, labels and confidence of different numbers, or no such class.
        """
        boxes, labels, scores = (
            np.asarray(predictions[name]) for name in ("boxes", "labels", "confidence")
        )
        if boxes.shape != (len(labels), 4) or scores.shape != labels.shape:
            raise ValueError(
                f"boxes must be (N, 4), labels and confidence (N,), got {boxes.shape}, "
                f"{labels.shape} and {scores.shape}"
            )
        self.count += 1
        for box, label, kind in zip(*objects, strict=True):
            row = self._row(self._known, box, label)
            row["iscrowd"] = int(kind == CROWD)
            if kind == DIFFICULT:
                row["area"] = _NOT_COUNTED
        for box, label, score in zip(boxes, labels, scores, strict=True):
            self._row(self._found, box, label)["score"] = float(score)

    def _row(self, rows: list[dict], box: np.ndarray, label: int) -> dict:
        if not 0 <= label < self.num_classes:
            raise ValueError(f"label {label} is no class: there are {self.num_classes}")
        x1, y1, x2, y2 = map(float, box)
        width, height = x2 - x1, y2 - y1
        rows.append(
            {
                "id": len(rows) + 1,  # 0 would mean "not matched"
                "image_id": self.count,
                "category_id": int(label),
                "bbox": [x1, y1, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
        )
        return rows[-1]

    def result(self) -> DetectionScores:
        """The average precision of all images so far.

        Raises:
            ValueError: there are none.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        if not self.count:
            raise ValueError("no images were added")
        sides = []
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its steps
            for rows in (self._known, self._found):
                side = COCO()
                side.dataset = {
                    "images": [{"id": number + 1} for number in range(self.count)],
                    "categories": [{"id": number} for number in range(self.num_classes)],
                    "annotations": [dict(row) for row in rows],
                }
                side.createIndex()
                sides.append(side)
            evaluation = COCOeval(*sides, iouType="bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, _LARGEST]], ["all"]
            evaluation.params.maxDets = [MAX_DETECTIONS]
            evaluation.evaluate()
            evaluation.accumulate()
        # Thresholds, recalls and classes; -1 for classes without an object.
        precision = evaluation.eval["precision"][..., 0, 0]
        by_class = np.where((precision < 0).all(1), np.nan, precision.mean(1))
        return self._scores(by_class, evaluation.params.iouThrs)

    def _scores(self, by_class: np.ndarray, thresholds: np.ndarray) -> DetectionScores:
        """Of the average precision (thresholds, classes)."""
        at = [int(np.abs(thresholds - value).argmin()) for value in (0.5, 0.75)]
        values = np.stack([by_class.mean(0), *by_class[at]])
        counted = [
            row["category_id"]
            for row in self._known
            if not row["iscrowd"] and row["area"] != _NOT_COUNTED
        ]
        counts = np.bincount(np.array(counted, np.int64), minlength=self.num_classes)
        classes = [
            {
                "name": name,
                "objects": int(count),
                **{
                    key: None if np.isnan(value) else round(float(value), 6)
                    for key, value in zip(("ap", "ap50", "ap75"), column, strict=True)
                },
            }
            for name, count, column in zip(self.names, counts, values.T, strict=True)
        ]
        occurs = ~np.isnan(values[0])
        means = values[:, occurs].mean(1) if occurs.any() else np.full(3, np.nan)
        return DetectionScores(*map(float, means), classes)
