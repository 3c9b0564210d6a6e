"""Pictures of images with the classes of their pixels on top."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo.data import Source
from mimzoo.data.label_maps import IGNORED
from mimzoo_training.files import write_file
from mimzoo_training.pictures import spread

OPACITY = 0.55
MAX_NAMES = 24  # in a legend
SHOWN = 4


def colours(num_classes: int) -> np.ndarray:
    """(num_classes, 3) uint8, the same for a class in every picture.

    Hues a golden angle apart, so that successive classes differ, in three brightnesses.
    """
    from matplotlib.colors import hsv_to_rgb

    number = np.arange(num_classes)
    hue = number * 0.6180339887 % 1
    value = np.array([1.0, 0.75, 0.5])[number % 3]
    return np.rint(255 * hsv_to_rgb(np.stack([hue, np.full(num_classes, 0.9), value], -1))).astype(
        "uint8"
    )


def overlay(image: np.ndarray, label_map: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 under the colours of its classes (H, W); 255 stays as it is."""
    known = label_map != IGNORED
    mixed = image.astype(np.float32)
    mixed[known] += OPACITY * (palette[label_map[known]] - mixed[known])
    return np.rint(mixed).astype("uint8")


def draw_overlays(
    rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    headings: Sequence[str],
    names: Sequence[str],
    path: Path,
) -> None:
    """Draws overlays and the legend of the classes that occur, as a PNG file.

    Args:
        rows: of (image, label map) each.
        headings: of the columns.
        names: of the classes.
        path: of the file.
    """
    palette = colours(len(names))

    def draw(axes: Any, image: np.ndarray, label_map: np.ndarray) -> np.ndarray:
        axes.imshow(overlay(image, label_map, palette), interpolation="nearest")
        return np.bincount(label_map[label_map != IGNORED], minlength=len(names))

    draw_grid(rows, headings, names, path, draw)


def draw_grid(
    rows: Sequence[Sequence[tuple[np.ndarray, Any]]],
    headings: Sequence[str],
    names: Sequence[str],
    path: Path,
    draw: Callable[[Any, np.ndarray, Any], np.ndarray],
) -> None:
    """Draws images in rows and the legend of the classes that occur, as a PNG file.

    Args:
        rows: of (image, what to draw on it) each.
        headings: of the columns.
        names: of the classes.
        path: of the file.
        draw: draws both on Matplotlib's axes, and gives how much of each class there is (C,).
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    palette = colours(len(names))
    tall, wide = rows[0][0][0].shape[:2]
    width = min(4.0, 4.0 * wide / tall)
    size = (width * len(rows[0]) + 2.2, width * tall / wide * len(rows) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    amounts = np.zeros(len(names), np.int64)
    for number, (line, row) in enumerate(zip(grid, rows, strict=True)):
        for place, (axes, (image, what)) in enumerate(zip(line, row, strict=True)):
            amounts += draw(axes, image, what)
            axes.set(xticks=[], yticks=[])
            if not number:
                axes.set_title(headings[place], fontsize=9)
    found = np.argsort(-amounts, kind="stable")[: np.count_nonzero(amounts)]
    patches = [Patch(color=palette[n] / 255, label=names[n]) for n in found[:MAX_NAMES]]
    if len(found) > MAX_NAMES:
        patches.append(Patch(alpha=0, label=f"and {len(found) - MAX_NAMES} more"))
    figure.legend(handles=patches, loc="outside right upper", fontsize=8, frameon=False)
    write_file(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


class EpochPictures:
    """A hook that draws `overlay_<epoch>.png` of images of a source, evenly spread over it.

    The first comes after the first epoch.

    Args:
        source: the images.
        every: epochs between two of the others.
    """

    def __init__(self, source: Source, every: int) -> None:
        self.examples = [source[index] for index in spread(len(source), SHOWN).tolist()]
        self.every = every

    def __call__(self, trainer: Any, epoch: float) -> None:
        """Draws what the model makes of the images now."""
        last = trainer.state["step"] == trainer.total_steps
        if last or (isinstance(epoch, int) and (epoch == 1 or epoch % self.every == 0)):
            self.draw(trainer.model, trainer.workdir.path / f"overlay_{epoch}.png")

    def draw(self, model: Any, path: Path) -> None:
        """Draws the examples and what a model predicts."""
        raise NotImplementedError


class Overlays(EpochPictures):
    """Label maps and predictions."""

    def draw(self, model: Any, path: Path) -> None:
        """A row for each image."""
        images = [example["image"][..., :3] for example in self.examples]
        rows = [
            [(image, example["image"][..., 3]), (image, predicted)]
            for example, image, predicted in zip(
                self.examples, images, model.predict(images), strict=True
            )
        ]
        draw_overlays(rows, ("label map", "prediction"), class_names(model), path)


def class_names(model: Any) -> list[str]:
    """The names of a model's classes, or their numbers."""
    return [str(name) for name in model.class_names or range(model.num_classes)]
