"""Fine-tuning and linear probing: a preset, labelled images and a folder give a classifier."""

import os
from collections.abc import Callable
from typing import Any

import keras

from mimzoo.data import Loader, Source, take_subset
from mimzoo.data.classes import match_classes
from mimzoo.tasks import ImageClassifier
from mimzoo_training import by_class, classify, parts
from mimzoo_training.distribution import Devices
from mimzoo_training.recipes.base import check_share
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe
from mimzoo_training.splits import open_parts, open_test
from mimzoo_training.supervised import Job, Measured, check_precision, result, train
from mimzoo_training.workdir import Workdir, alone_in_workdir, write_json


@alone_in_workdir
def finetune(
    preset: str | keras.Model,
    source: Source | str,
    workdir: str | os.PathLike,
    recipe: FinetuneRecipe | None = None,
    *,
    validation: Source | str | None = None,
    test: Source | str | None = None,
    num_labels: int | None = None,
    num_classes: int | None = None,
    from_scratch: bool = False,
    linear_probe: bool = False,
    scale: float | None = None,
    precision: str = "float32",
    validation_every: int | None = None,
    checkpoint_seconds: float = 120.0,
    devices: Devices | None = None,
    command: str = "mimzoo_training.finetune.finetune",
    say: Callable[[str], None] = print,
) -> Workdir:
    """Makes a classifier of a pretrained model, or resumes the run in the folder.

    Args:
        preset: name, folder or hf:// handle of a pretrained model, or a backbone.
        source: labelled images to train on, or what `mimzoo.data.open_source` opens ("train").
        workdir: the folder; see Workdir.
        recipe: default: the one of the preset's size.
        validation: measured during training; default: the source's "validation" split if
            `source` is a name, else none.
        test: measured at the end; default: the source's "test" split if `source` is a name, else
            `validation`.
        num_labels: train on so many images, spread evenly over the classes.
        num_classes: default: those of the source.
        from_scratch: new weights, with the same schedule: what pretraining has to be better than.
        linear_probe: the backbone stays as it is; see `mimzoo.downstream.linear_probe`. Leaves
            results, no preset.
        scale: share of the length that the recipe has on these images, in (0, 1], for a trial.
        precision: "float32" or "mixed_bfloat16".
        validation_every: epochs between two validations; default: 1.
        checkpoint_seconds: between two checkpoints; a signal always leaves one.
        devices: from `mimzoo_training.distribution.start`; default: one.
        command: recorded with the results.
        say: gets a line about what happens.

    Returns:
        The work directory, its run complete.

    Raises:
        RunError: the folder cannot be used, or the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; all is saved.
        ValueError: preset, recipe and data do not fit, or labels are out of range.
    """
    check_precision(precision)
    check_share(scale)
    if recipe is None:
        if isinstance(preset, keras.Model):
            raise ValueError("give a recipe with a backbone: only a preset's size is known.")
        recipe = classify.recipe_for(preset)
    if recipe.kind != "finetune":
        task = f"finetune --task {recipe.kind}"
        command = "pretrain" if recipe.kind == "pretrain" else task
        raise ValueError(f"{recipe.name} is no recipe for a classifier: use `mimzoo {command}`.")
    place = Workdir(workdir)
    train_on, held_out = open_parts(source, validation)
    test = open_test(source, validation, test, held_out)
    source, validation = train_on, held_out
    classes = num_classes or _labelled(source).num_classes
    classify.check_source(source, classes)
    validation, test = (
        known and match_classes(known, source.class_names, classes) for known in (validation, test)
    )
    if scale is not None:
        recipe = recipe.scaled(scale, num_labels or len(source))
    recipe = parts.named_for(recipe, source)
    if num_labels is not None:
        source = take_subset(source, count=num_labels, seed=recipe.seed)
    recipe = parts.batch_for(recipe, source, say)

    job = _Classify(
        preset=preset,
        recipe=recipe,
        source=source,
        validation=validation,
        test=test,
        num_classes=classes,
        num_labels=num_labels,
        from_scratch=from_scratch,
        linear_probe=linear_probe,
        devices=devices or Devices(),
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


class _Classify(Job):
    metrics = ("accuracy",)

    def build(self, load_weights: bool, dtype: str) -> ImageClassifier:
        return classify.build_classifier(
            self.preset, self.recipe, self.num_classes, load_weights, dtype, self.names
        )

    def compile(self, model: ImageClassifier, optimizer: Any) -> None:
        classify.compile_classifier(model, optimizer)

    def loader(self) -> Loader:
        shard = self.devices.shard
        return classify.train_loader(self.recipe, self.source, self.num_classes, shard)

    def validate(self, model: ImageClassifier) -> dict[str, float]:
        size = self.recipe.batch_size
        values = classify.measure(model, self.validation, size, self.devices)
        return {f"val_{name}": value for name, value in values.items()}

    def measure(self, model: ImageClassifier) -> Measured:
        tested = by_class.measure(model, self.test, self.recipe.batch_size)
        more = {"classes": tested.to_json()}
        return Measured("accuracy", tested.accuracy, "held-out accuracy", more, tested.text())

    def facts(self) -> dict[str, Any]:
        return {"test": self.test.name if self.test else None}

    def instead(
        self, model: ImageClassifier, place: Workdir, command: str, say: Callable[[str], None]
    ) -> bool:
        used = [part for part in (self.source, self.validation, self.test) if part is not None]
        for text in dict.fromkeys(by_class.absent(part, self.num_classes) for part in used):
            if text:
                say(text)
        if self.linear_probe:
            if self.devices.count > 1:
                raise ValueError("a linear probe runs on one device: leave --devices out.")
            _probe(self, place, model, command, say)
        return self.linear_probe


def _labelled(source: Source) -> Source:
    _ = source.labels  # says how labels are given where there are none
    return source


def _probe(
    job: Job, place: Workdir, model: ImageClassifier, command: str, say: Callable[[str], None]
) -> None:
    from mimzoo.downstream import extract_features, linear_probe

    source, test, recipe = job.source, job.test, job.recipe
    if test is None:
        raise ValueError("a linear probe needs images to test on: give `test` or `validation`.")
    say(f"{recipe.name}: features of {len(source)} and {len(test)} images")

    rules = model.input_rules(training=False)

    def features(images: Source) -> tuple:
        loader = Loader(
            images,
            min(recipe.batch_size, len(images)),
            transform=rules.transform,
            normalize=rules.normalize,
            shuffle=False,
            drop_remainder=False,
            labels=True,
        )
        return extract_features(model.backbone, loader, recipe.pooling)

    value = linear_probe(*features(source), *features(test), num_classes=model.num_classes)
    found = result(job, "accuracy", value, command, protocol="linear probe")
    write_json(place.path / "results.json", [found])
    say(f"{recipe.name} is finished: held-out accuracy {value:.4f} on {len(test)} images")
