"""Fine-tuning and linear probing: a preset, labelled images and a folder give a classifier."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import keras

from mimzoo.data import Loader, Source, take_subset
from mimzoo.data.classes import match_classes
from mimzoo.hub import resolve
from mimzoo.hub.contents import OURS, Contents
from mimzoo.hub.licences import UNKNOWN
from mimzoo_training import by_class, classify, export, parts
from mimzoo_training.distribution import Devices
from mimzoo_training.loop import Trainer
from mimzoo_training.pictures import Curves, tensorboard_hook
from mimzoo_training.recipes.base import check_share
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe
from mimzoo_training.runner import PRECISIONS
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
    validation_every: int = 1,
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
        validation_every: epochs between two validations.
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
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    check_share(scale)
    if recipe is None:
        if isinstance(preset, keras.Model):
            raise ValueError("give a recipe with a backbone: only a preset's size is known.")
        recipe = classify.recipe_for(preset)
    if recipe.kind != "finetune":
        command = "finetune --task segment" if recipe.kind == "segment" else "pretrain"
        raise ValueError(f"{recipe.name} is no recipe for a classifier: use `mimzoo {command}`.")
    place = Workdir(workdir)
    if isinstance(source, str):
        validation = source if validation is None else validation
        test = source if test is None else test
    validation = None if validation is None else parts.to_source(validation, "validation")
    test = validation if test is None else parts.to_source(test, "test")
    source = parts.to_source(source, "train")
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

    devices = devices or Devices()
    say = devices.voice(say)
    devices.check_batch(recipe.batch_size)
    with devices.scope():
        keras.utils.set_random_seed(recipe.seed)
        names = source.class_names if classes == source.num_classes else None
        model = classify.build_classifier(
            preset, recipe, classes, not from_scratch, precision, names
        )
        recipe = classify.with_statistics_of(recipe, model)
        start = "backbone" if isinstance(preset, keras.Model) else classify.preset_name(preset)
        start += "_scratch" if from_scratch else "_probe" if linear_probe else ""
        recipe = dataclasses.replace(recipe, name=classify.run_name(recipe, start, num_labels))
        run = {
            "source": source.name,
            **parts.identity(source),
            "num_examples": len(source),
            "num_classes": classes,
            "classes": None if names is None else list(names),
            "validation": validation.name if validation else None,
            "validation_fingerprint": parts.fingerprint(validation),
            "test": test.name if test else None,
            "start": start,
            "start_weights": classify.weights_digest(preset),
            "backend": keras.backend.backend(),
            "precision": precision,
        }
        if devices.is_main:
            place.claim(recipe.to_json(), run, say)
        devices.wait()
        if place.finished:
            say(f"{recipe.name} is finished: {place.path}")
            return place
        parts_used = [part for part in (source, validation, test) if part is not None]
        for text in dict.fromkeys(by_class.absent(part, classes) for part in parts_used):
            if text:
                say(text)
        if linear_probe:
            if devices.count > 1:
                raise ValueError("a linear probe runs on one device: leave --devices out.")
            return _probe(place, model, recipe, source, test, command, say)

        loader = classify.train_loader(recipe, source, classes, devices.shard)
        rate = parts.schedule(recipe, len(source))
        optimizer = classify.finetune_optimizer(recipe, model, rate)
        classify.compile_classifier(model, recipe.label_smoothing, optimizer)

        def evaluate() -> dict[str, float]:
            if validation is None:
                return {}
            values = classify.measure(model, validation, recipe.batch_size, devices)
            return {f"val_{name}": value for name, value in values.items()}

        trainer = Trainer(
            model,
            loader,
            rate.total_steps,
            place,
            evaluate,
            schedule=lambda step: float(rate(step)),
            hooks=[Curves(), *tensorboard_hook(place.path, say)] if devices.is_main else [],
            metrics=("accuracy",),
            validation_every=validation_every,
            checkpoint_seconds=checkpoint_seconds,
            devices=devices,
        )
        say(
            f"{recipe.name}: {trainer.total_steps} steps of {recipe.batch_size} images from "
            f"{source.name} ({len(source)}, {classes} classes), peak learning rate "
            f"{recipe.peak_learning_rate:.3g}, {run['backend']} backend, {precision}, {devices}"
        )
        trainer.run()

        weights = export.whole_weights(model, devices.whole)
    if not devices.is_main:
        return place
    final = model
    if precision != "float32" or devices.count > 1:
        final = classify.build_classifier(preset, recipe, classes, False, "float32", names)
        export.set_weights(final, weights, "float32")
    classify.compile_classifier(final, recipe.label_smoothing, "sgd")
    results = []
    if test is not None:
        tested = by_class.measure(final, test, recipe.batch_size)
        seconds = round(trainer.state["seconds"], 1)
        more = {"training_seconds": seconds, "classes": tested.to_json()}
        results = [_accuracy(tested.accuracy, test, command, **more)]
    licence = OURS if from_scratch else _licence(preset)
    stored = {**run, "start_licence": licence}
    export.write_preset(trainer, final, recipe, stored, results, "float32")
    write_json(place.path / "results.json", results)
    accuracy = (
        f", held-out accuracy {results[0]['value']:.4f} on {len(test)} images" if results else ""
    )
    say(f"{recipe.name} is finished: {place.preset}{accuracy}")
    if test is not None:
        say(tested.text())
    return place


def _licence(preset: Any) -> str:
    """Of the weights that a run began with, which what it makes of them keeps."""
    if isinstance(preset, keras.Model):
        return UNKNOWN
    return Contents.read(resolve(preset)).licence


def _labelled(source: Source) -> Source:
    _ = source.labels  # says how labels are given where there are none
    return source


def _accuracy(value: float, test: Source, command: str, **more: Any) -> dict:
    on = f"{test.name} ({len(test)} images)"
    return export.result("accuracy", value, on, command, backend=keras.backend.backend(), **more)


def _probe(
    place: Workdir,
    model: Any,
    recipe: FinetuneRecipe,
    source: Source,
    test: Source | None,
    command: str,
    say: Callable[[str], None],
) -> Workdir:
    from mimzoo.downstream import extract_features, linear_probe

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
    write_json(
        place.path / "results.json", [_accuracy(value, test, command, protocol="linear probe")]
    )
    say(f"{recipe.name} is finished: held-out accuracy {value:.4f} on {len(test)} images")
    return place
