"""Segmentation: a preset, images with label maps and a folder give a segmenter."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

from mimzoo.data import Loader, RandomScaleCrop, Source, open_label_maps, take_subset
from mimzoo.data.label_map_files import check_learnable
from mimzoo.tasks import ImageSegmenter
from mimzoo.tasks.segmentation.confusion import Confusion
from mimzoo_training import parts
from mimzoo_training.dense import (
    build_dense,
    check_classes,
    chosen_recipe,
    fill_colour,
    tenth,
    window_loader,
)
from mimzoo_training.overlays import Overlays
from mimzoo_training.recipes.recipe_kinds import SegmentRecipe
from mimzoo_training.segment_report import by_class, table
from mimzoo_training.splits import open_parts
from mimzoo_training.supervised import Job, Measured, check_precision, train
from mimzoo_training.workdir import Workdir, alone_in_workdir

METRIC = "mean IoU"


@alone_in_workdir
def segment(
    preset: str,
    source: Source | str,
    workdir: str | os.PathLike,
    recipe: SegmentRecipe | None = None,
    *,
    validation: Source | str | None = None,
    num_classes: int | None = None,
    num_labels: int | None = None,
    from_scratch: bool = False,
    linear_probe: bool = False,
    scale: float | None = None,
    precision: str = "float32",
    validation_every: int | None = None,
    checkpoint_seconds: float = 120.0,
    command: str = "mimzoo_training.segment.segment",
    say: Callable[[str], None] = print,
) -> Workdir:
    """Makes a segmenter of a pretrained model, or resumes the run in the folder. On one device.

    Args:
        preset: name, folder or hf:// handle of a pretrained model.
        source: images with label maps to train on, or what `mimzoo.data.open_label_maps` opens.
        workdir: the folder; see Workdir.
        recipe: default: the one of the preset's size.
        validation: whole images, measured during training and at the end; default: the source's
            "validation" split if `source` is a name, else none.
        num_classes: default: those of the source.
        num_labels: train on so many images.
        from_scratch: new weights, with the same schedule: what pretraining has to be better than.
        linear_probe: the backbone stays as it is, below a linear head.
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
    """
    check_precision(precision)
    recipe = chosen_recipe(preset, recipe, "segment")
    if linear_probe:
        recipe = dataclasses.replace(recipe, head="linear", drop_path_rate=0.0)
    place = Workdir(workdir)
    source, validation = open_parts(
        source,
        validation,
        opener=opener(recipe, num_classes),
        then=lambda train: opener(recipe, num_classes or train.num_classes),
    )
    classes = num_classes or source.num_classes
    for one in filter(None, (source, validation)):
        check_source(one, classes)
    if num_labels is not None:
        source = take_subset(source, count=num_labels, seed=recipe.seed)
    check_learnable(source)
    if scale is not None:
        recipe = recipe.scaled(scale, len(source))
    job = _Segment(
        preset=preset,
        recipe=parts.batch_for(parts.named_for(recipe, source), source, say),
        source=source,
        validation=validation,
        test=validation,
        num_classes=classes,
        num_labels=num_labels,
        from_scratch=from_scratch,
        linear_probe=linear_probe,
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


class _Segment(Job):
    columns = ("val_mean_iou",)
    infix = "_seg_"

    def build(self, load_weights: bool, dtype: str) -> ImageSegmenter:
        shape = self.num_classes, load_weights, dtype, self.names
        model = build_dense(ImageSegmenter, self.preset, self.recipe, *shape)
        if self.linear_probe:
            model.backbone.trainable = False
        return model

    def compile(self, model: ImageSegmenter, optimizer: Any) -> None:
        # The metric is measured on whole images, in validation.
        model.compile(optimizer, metrics=None)

    def loader(self) -> Loader:
        return train_loader(self.recipe, self.source)

    def validate(self, model: ImageSegmenter) -> dict[str, float]:
        loss, confusion = measure(model, self.validation)
        return {"val_loss": loss, "val_mean_iou": confusion.mean_iou}

    def measure(self, model: ImageSegmenter) -> Measured:
        _, confusion = measure(model, self.test)
        rows = by_class(confusion, model.class_names)
        more = {"pixel_accuracy": round(confusion.accuracy, 6), "classes": rows}
        return Measured(METRIC, confusion.mean_iou, METRIC, more, table(rows))

    def default_interval(self, epochs: float) -> int:
        return tenth(epochs)

    def pictures(self, epochs: float) -> list[Any]:
        return [Overlays(self.validation, tenth(epochs))] if self.validation else []


# --- parts of a run -------------------------------------------------------------------------------


def opener(recipe: SegmentRecipe, num_classes: int | None) -> Callable[..., Source]:
    """Opens images with label maps, whose numbers mean what the recipe says."""
    meaning = {"ignore_index": recipe.ignore_index, "first_class": recipe.first_class}
    return functools.partial(open_label_maps, num_classes=num_classes, **meaning)


def check_source(source: Source, num_classes: int) -> None:
    """Raises ValueError unless a source has label maps of so many classes."""
    if not source.dense:
        raise ValueError(
            f"{source.name} has no label maps: open it with mimzoo.data.open_label_maps"
        )
    check_classes(source, num_classes)


def train_loader(recipe: SegmentRecipe, source: Source) -> Loader:
    """Augmented windows and their label maps, without end."""
    window = RandomScaleCrop(
        (recipe.image_size, recipe.image_size),
        recipe.crop_scale,
        recipe.shorter_side,
        recipe.max_share,
        fill_colour(recipe),
    )
    return window_loader(recipe, source, window)


def measure(model: ImageSegmenter, source: Source) -> tuple[float, Confusion]:
    """Loss of a compiled segmenter on whole images, and what it takes for what."""
    confusion = Confusion(model.num_classes)
    values = model.evaluate(source, return_dict=True, confusion=confusion)
    return values["loss"], confusion
