"""Pictures of images with the boxes of their objects on top."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo.data.objects import CROWD, Objects
from mimzoo_training.overlays import EpochPictures, class_names, colours, draw_grid

MIN_SCORE = 0.3  # of a prediction that is drawn; ours
_MAX_BOXES = 100  # on an image, those with the highest scores

# {"boxes": (N, 4), "labels": (N,)} and of predictions "confidence" (N,).
Boxes = Mapping[str, np.ndarray]


def known_boxes(objects: Objects) -> Boxes:
    """What `draw_boxes` takes, of the objects of a source; without crowds."""
    kept = objects.where(objects.kinds != CROWD)
    return {"boxes": kept.boxes, "labels": kept.labels}


def shown(boxes: Boxes, min_score: float = MIN_SCORE) -> Boxes:
    """The boxes that are drawn: all known ones, of predictions at most 100 with such a score."""
    if "confidence" not in boxes:
        return boxes
    order = np.argsort(-boxes["confidence"], kind="stable")
    kept = order[boxes["confidence"][order] >= min_score][:_MAX_BOXES]
    return {name: values[kept] for name, values in boxes.items()}


def draw_boxes(
    rows: Sequence[Sequence[tuple[np.ndarray, Boxes]]],
    headings: Sequence[str],
    names: Sequence[str],
    path: Path,
    min_score: float = MIN_SCORE,
) -> None:
    """Draws images with boxes, each with its class and score, as a PNG file.

    Args:
        rows: of (image (H, W, 3) uint8, boxes) each; boxes are {"boxes": (N, 4), "labels": (N,)},
            corners x1, y1, x2, y2 in pixels, and of predictions "confidence" (N,).
        headings: of the columns.
        names: of the classes.
        path: of the file.
        min_score: of a prediction that is drawn.
    """
    from matplotlib.patches import Rectangle

    palette = colours(len(names)) / 255

    def draw(axes: Any, image: np.ndarray, boxes: Boxes) -> np.ndarray:
        axes.imshow(image, interpolation="nearest")
        boxes = shown(boxes, min_score)
        labels = boxes["labels"].astype(int)
        scores = boxes.get("confidence", [None] * len(labels))
        for (x1, y1, x2, y2), label, value in zip(boxes["boxes"], labels, scores, strict=True):
            # Matplotlib's pixel 0 reaches from -0.5 to 0.5.
            corner, colour = (x1 - 0.5, y1 - 0.5), palette[label]
            axes.add_patch(Rectangle(corner, x2 - x1, y2 - y1, fill=False, color=colour, lw=1.2))
            axes.annotate(
                names[label] if value is None else f"{names[label]} {value:.2f}",
                corner,
                fontsize=5,
                color="white",
                verticalalignment="bottom",
                annotation_clip=True,
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
                parse_math=False,
            )
        return np.bincount(labels, minlength=len(names))

    draw_grid(rows, headings, names, path, draw)


class BoxOverlays(EpochPictures):
    """Boxes and predictions."""

    def draw(self, model: Any, path: Path) -> None:
        """A row for each image."""
        images = [example["image"] for example in self.examples]
        rows = [
            [(image, known_boxes(example["objects"])), (image, predicted)]
            for example, image, predicted in zip(
                self.examples, images, model.predict(images), strict=True
            )
        ]
        draw_boxes(rows, ("boxes", "prediction"), class_names(model), path)
