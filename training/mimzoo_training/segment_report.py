"""What a segmenter reaches on each class."""

import math
from collections.abc import Sequence
from typing import Any

from mimzoo.tasks.segmentation.confusion import Confusion
from mimzoo_training.class_table import class_table


def by_class(confusion: Confusion, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """{"name", "pixels", "iou"} of each class; the IoU of a class that does not occur is None."""
    names = names or [str(number) for number in range(len(confusion.counts))]
    return [
        {"name": name, "pixels": pixels, "iou": None if math.isnan(iou) else round(iou, 6)}
        for name, pixels, iou in zip(
            names, confusion.pixels.tolist(), confusion.iou.tolist(), strict=True
        )
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """A table of at most 20 classes for a terminal, the worst ones if there are more."""
    total = max(sum(row["pixels"] for row in rows), 1)
    columns = {
        "pixels": lambda row: f"{row['pixels'] / total:.1%}",
        "IoU": lambda row: f"{row['iou']:.4f}",
    }
    return class_table(rows, columns, "iou", "IoU", "pixels", "pixel")
