"""The accuracy of a classifier on each class."""

import dataclasses
from typing import Any

import keras
import numpy as np

from mimzoo.data import Source
from mimzoo.tasks import ImageClassifier
from mimzoo.tasks.inputs import fed
from mimzoo_training.class_table import class_table, few
from mimzoo_training.parts import evaluation_loader


@dataclasses.dataclass(frozen=True)
class ByClass:
    """How many images of each class there were, and how many were classified correctly.

    Attributes:
        names: of the C classes.
        images: (C,) integers.
        correct: (C,) integers.
    """

    names: list[str]
    images: np.ndarray
    correct: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of all images that were classified correctly."""
        return float(self.correct.sum() / self.images.sum())

    @property
    def absent(self) -> list[str]:
        """Classes without an image."""
        return [name for name, count in zip(self.names, self.images, strict=True) if not count]

    def to_json(self) -> list[dict[str, Any]]:
        """{"name", "images", "accuracy"} of each class; the accuracy of no images is None."""
        rows = zip(self.names, self.images.tolist(), self.correct.tolist(), strict=True)
        return [
            {
                "name": name,
                "images": images,
                "accuracy": round(good / images, 6) if images else None,
            }
            for name, images, good in rows
        ]

    def text(self) -> str:
        """A table of at most 20 classes, the worst ones if there are more, and the absent ones."""
        columns = {
            "images": lambda row: str(row["images"]),
            "accuracy": lambda row: f"{row['accuracy']:.4f}",
        }
        return class_table(
            self.to_json(), columns, "accuracy", "accuracy", "images", "held-out image"
        )


def absent(source: Source, num_classes: int) -> str:
    """A sentence about the classes of which a labelled source has no image; "" if it has all."""
    counts = np.bincount(source.labels, minlength=num_classes)
    lacking = [
        name for name, count in zip(_names(source, num_classes), counts, strict=True) if not count
    ]
    if not lacking:
        return ""
    return f"{source.name} has no image of {len(lacking)} of {num_classes} classes: {few(lacking)}"


def measure(model: ImageClassifier, source: Source, batch_size: int) -> ByClass:
    """Classifies a labelled source, on one device.

    Args:
        model: the classifier.
        source: with the labels of its outputs.
        batch_size: of a forward pass.
    """
    loader = evaluation_loader(model, source, batch_size, labels=True)
    images, correct = np.zeros((2, model.num_classes), int)
    with fed():
        for batch, labels in loader:
            # KerasHub's own would preprocess once more.
            best = keras.Model.predict_on_batch(model, batch).argmax(-1)
            images += np.bincount(labels, minlength=model.num_classes)
            correct += np.bincount(labels[best == labels], minlength=model.num_classes)
    return ByClass(_names(source, model.num_classes), images, correct)


def _names(source: Source, count: int) -> list[str]:
    """Of the classes; those that the source does not name are called by their number."""
    known = list(source.class_names or ())
    return [*known, *(str(number) for number in range(len(known), count))]
