"""Detection: a preset, images with boxes and a folder give a detector."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mimzoo.data import Loader, ScaleJitter, Source, open_boxes, take_subset
from mimzoo.data.images import ImageError
from mimzoo.tasks import ObjectDetector
from mimzoo.tasks.detection import AveragePrecision, DetectionScores
from mimzoo_training import parts
from mimzoo_training.box_overlays import BoxOverlays
from mimzoo_training.class_table import class_table
from mimzoo_training.dense import (
    build_dense,
    check_classes,
    chosen_recipe,
    fill_colour,
    tenth,
    window_loader,
)
from mimzoo_training.recipes.recipe_kinds import DetectRecipe
from mimzoo_training.splits import open_parts
from mimzoo_training.supervised import Job, Measured, check_precision, train
from mimzoo_training.workdir import Workdir, alone_in_workdir

METRIC = "box AP50"
READ_AT_ONCE = 64  # images whose objects are found


@alone_in_workdir
def detect(
    preset: str,
    source: Source | str,
    workdir: str | os.PathLike,
    recipe: DetectRecipe | None = None,
    *,
    validation: Source | str | None = None,
    num_labels: int | None = None,
    from_scratch: bool = False,
    scale: float | None = None,
    precision: str = "float32",
    validation_every: int | None = None,
    checkpoint_seconds: float = 120.0,
    command: str = "mimzoo_training.detect.detect",
    say: Callable[[str], None] = print,
) -> Workdir:
    """Makes a detector of a pretrained model, or resumes the run in the folder. On one device.

    Args:
        preset: name, folder or hf:// handle of a pretrained model.
        source: images with boxes to train on, or what `mimzoo.data.open_boxes` opens.
        workdir: the folder; see Workdir.
        recipe: default: the one of the preset's size.
        validation: measured during training and at the end; default: the source's "validation"
            split if `source` is a name, else none.
        num_labels: train on so many images.
        from_scratch: new weights, with the same schedule: what pretraining has to be better than.
        scale: share of the length that the recipe has on these images, in (0, 1], for a trial.
        precision: "float32" or "mixed_bfloat16".
        validation_every: epochs between two validations; default: a tenth of the run.
        checkpoint_seconds: between two checkpoints; a signal always leaves one.
        command: recorded with the results.
        say: gets a line about what happens.

    Returns:
        The work directory, its run complete.

    Raises:
        RunError: the folder cannot be used, or the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; all is saved.
        ValueError: preset, recipe and data do not fit.
        ImportError: there is something to validate on, and pycocotools is not installed.
    """
    check_precision(precision)
    recipe = chosen_recipe(preset, recipe, "detect")
    place = Workdir(workdir)
    source, validation = open_parts(
        source,
        validation,
        opener=open_boxes,
        then=lambda train: functools.partial(open_boxes, class_names=train.class_names),
    )
    for one in filter(None, (source, validation)):
        check_source(one, source.num_classes)
    if validation is not None:
        AveragePrecision(source.num_classes)  # before hours of training
    if num_labels is not None:
        source = take_subset(source, count=num_labels, seed=recipe.seed)
    if scale is not None:
        recipe = recipe.scaled(scale, len(source))
    job = _Detect(
        preset=preset,
        recipe=parts.batch_for(parts.named_for(recipe, source), source, say),
        source=source,
        validation=validation,
        test=validation,
        num_classes=source.num_classes,
        num_labels=num_labels,
        from_scratch=from_scratch,
    )
    return train(
        job,
        place,
        precision=precision,
        validation_every=validation_every,
        checkpoint_seconds=checkpoint_seconds,
        command=command,
        say=say,
    )


class _Detect(Job):
    columns = ("val_ap", "val_ap50")
    infix = "_det_"

    def build(self, load_weights: bool, dtype: str) -> ObjectDetector:
        shape = self.num_classes, load_weights, dtype, self.names
        return build_dense(ObjectDetector, self.preset, self.recipe, *shape)

    def compile(self, model: ObjectDetector, optimizer: Any) -> None:
        model.compile(optimizer)

    def loader(self) -> Loader:
        return train_loader(self.recipe, self.source)

    def validate(self, model: ObjectDetector) -> dict[str, float]:
        loss, scores = measure(model, self.validation, self.recipe.batch_size)
        return {"val_loss": loss, "val_ap": scores.ap, "val_ap50": scores.ap50}

    def measure(self, model: ObjectDetector) -> Measured:
        _, scores = measure(model, self.test, self.recipe.batch_size)
        more = {"ap": scores.ap, "ap75": scores.ap75}
        more = {name: round(value, 6) for name, value in more.items()}
        more["classes"] = scores.classes
        return Measured(METRIC, scores.ap50, METRIC, more, table(scores))

    def default_interval(self, epochs: float) -> int:
        return tenth(epochs)

    def pictures(self, epochs: float) -> list[Any]:
        return [BoxOverlays(self.validation, tenth(epochs))] if self.validation else []


# --- parts of a run -------------------------------------------------------------------------------


def check_source(source: Source, num_classes: int) -> None:
    """Raises ValueError unless a source has boxes of so many classes."""
    if not source.boxed:
        raise ValueError(f"{source.name} has no boxes: open it with mimzoo.data.open_boxes")
    check_classes(source, num_classes)


def train_loader(recipe: DetectRecipe, source: Source) -> Loader:
    """Augmented windows and the boxes in them, without end."""
    size = (recipe.image_size, recipe.image_size)
    return window_loader(recipe, source, ScaleJitter(size, recipe.crop_scale, fill_colour(recipe)))


def measure(
    model: ObjectDetector, source: Source, batch_size: int = 8
) -> tuple[float, DetectionScores]:
    """Loss of a compiled detector on a source, and COCO's average precision."""
    loss = model.evaluate(source, batch_size=batch_size, verbose=0, return_dict=True)["loss"]
    scores = AveragePrecision(model.num_classes, model.class_names)
    for first in range(0, len(source), READ_AT_ONCE):
        images = _readable(source, range(first, min(first + READ_AT_ONCE, len(source))))
        for index, found in zip(images, model.predict(list(images.values())), strict=True):
            scores.add(source.objects(index), found)
    return float(loss), scores.result()


def _readable(source: Source, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Images by number; one that cannot be read is left out, as `evaluate` has said."""

    def read(index: int) -> np.ndarray | None:
        try:
            return source.fetch([index])[0]["image"]
        except ImageError:
            return None

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of Python's lock
        found = zip(indices, pool.map(read, indices), strict=True)
        return {index: image for index, image in found if image is not None}


def table(scores: DetectionScores) -> str:
    """A table of at most 20 classes for a terminal, the worst ones if there are more."""
    columns = {"objects": lambda row: str(row["objects"])}
    for key in ("ap", "ap50", "ap75"):
        columns[key.upper()] = lambda row, key=key: f"{row[key]:.4f}"
    return class_table(scores.classes, columns, "ap50", "AP50", "objects", "object")
