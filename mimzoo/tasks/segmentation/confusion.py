"""What a segmenter takes for what: counts of pixels, and the shares that follow from them."""

import numpy as np

from mimzoo.data.label_maps import IGNORED


class Confusion:
    """Pixels of each class by the class that was predicted, exact for any number of images.

    Args:
        num_classes: C.

    Attributes:
        counts: (C, C) int64, true classes in rows, predictions in columns.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Counts the pixels of label maps (..., H, W), but for the number 255."""
        learned = labels != IGNORED
        count = len(self.counts)
        places = labels[learned].astype(np.int64) * count + predictions[learned]
        self.counts += np.bincount(places, minlength=count**2).reshape(count, count)

    @property
    def pixels(self) -> np.ndarray:
        """(C,) pixels of each class."""
        return self.counts.sum(1)

    @property
    def iou(self) -> np.ndarray:
        """(C,) of each class: pixels that label map and prediction share, over those of either.

        NaN for a class that neither has.
        """
        shared = np.diag(self.counts)
        either = self.counts.sum(0) + self.counts.sum(1) - shared
        return np.divide(shared, either, out=np.full(len(shared), np.nan), where=either > 0)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur; NaN if none does."""
        found = self.iou[~np.isnan(self.iou)]
        return float(found.mean()) if len(found) else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of the pixels whose class was predicted."""
        return float(np.diag(self.counts).sum() / max(self.counts.sum(), 1))
