"""Pretraining: a recipe, a source of images and a folder give a preset."""

import os
from collections.abc import Callable, Mapping

import keras
import numpy as np

from mimzoo.data import Source
from mimzoo_training import export, parts
from mimzoo_training.distribution import Devices
from mimzoo_training.loop import Trainer
from mimzoo_training.online_probe import COLUMN, OnlineProbe
from mimzoo_training.pictures import Curves, Reconstructions, tensorboard_hook
from mimzoo_training.recipes.base import check_share
from mimzoo_training.recipes.recipe_kinds import PretrainRecipe
from mimzoo_training.splits import open_parts
from mimzoo_training.workdir import RunError, Workdir, alone_in_workdir, write_json

PRECISIONS = ("float32", "mixed_bfloat16")
PICTURES = 10


@alone_in_workdir
def pretrain(
    recipe: PretrainRecipe,
    source: Source | str,
    workdir: str | os.PathLike,
    *,
    validation: Source | str | None = None,
    scores: Mapping[str, float] | None = None,
    scale: float | None = None,
    precision: str = "float32",
    validation_every: int = 1,
    checkpoint_seconds: float = 120.0,
    devices: Devices | None = None,
    probe: int | None = None,
    command: str = "mimzoo_training.runner.pretrain",
    say: Callable[[str], None] = print,
) -> Workdir:
    """Pretrains, or resumes the run in the folder.

    A stopped run resumes from its last checkpoint with the very same batches, masks and
    random states. A finished one is left as it is.

    Args:
        recipe: of `mimzoo_training.recipes`.
        source: images to train on, or what `mimzoo.data.open_source` opens ("train" split).
        workdir: the folder; see Workdir for what it will hold.
        validation: images for the validation loss; default: the source's "validation" split if
            `source` is a name, else none.
        scores: id -> score of the images, for a recipe whose sampling is "filtered".
        scale: share of the length that the recipe has on these images, in (0, 1], for a trial.
        precision: "float32" or "mixed_bfloat16".
        validation_every: epochs between two validations.
        checkpoint_seconds: between two checkpoints; a signal always leaves one.
        devices: from `mimzoo_training.distribution.start`; default: one. The result is the same
            on any number of them but for rounding, and a run may resume with another number.
        probe: train a linear probe on so many labelled images at each validation, and log its
            accuracy; see OnlineProbe. One process only.
        command: recorded with the results.
        say: gets a line about what happens.

    Returns:
        The work directory, its run complete.

    Raises:
        RunError: the folder cannot be used, or the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; all is saved.
        ValueError: recipe and data do not fit.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    check_share(scale)
    if recipe.kind != "pretrain":
        raise ValueError(f"{recipe.name} is a recipe for fine-tuning: use `mimzoo finetune`.")
    place = Workdir(workdir)
    source, validation = open_parts(source, validation)
    source = parts.subset_for(recipe, source, scores)
    if scale is not None:
        recipe = recipe.scaled(scale, len(source))
    recipe = parts.named_for(recipe, source)

    devices = devices or Devices()
    say = devices.voice(say)
    with devices.scope():
        trainer, run, weights = _train(
            recipe,
            source,
            place,
            validation=validation,
            precision=precision,
            validation_every=validation_every,
            checkpoint_seconds=checkpoint_seconds,
            devices=devices,
            probe=probe,
            say=say,
        )
    if weights is None or not devices.is_main:
        return place
    final = parts.build_task(recipe)
    export.set_weights(final, weights, recipe.preset_dtype)
    final.compile()
    on = validation or source
    loss = parts.masked_loss(final, on, recipe.batch_size)
    results = [
        export.result(
            "masked loss, masks of seed 0",
            loss,
            f"{on.name} ({len(on)} images)",
            command,
            backend=run["backend"],
            training_seconds=round(trainer.state["seconds"], 1),
        )
    ]
    export.write_preset(trainer, final, recipe, run, results, recipe.preset_dtype)
    write_json(place.path / "results.json", results)
    say(f"{recipe.name} is finished: {place.preset}, {results[0]['metric']} {loss:.4f}")
    return place


def _train(
    recipe: PretrainRecipe,
    source: Source,
    place: Workdir,
    *,
    validation: Source | None,
    precision: str,
    validation_every: int,
    checkpoint_seconds: float,
    devices: Devices,
    probe: int | None,
    say: Callable[[str], None],
) -> tuple[Trainer | None, dict, list[np.ndarray] | None]:
    """Trainer, what it ran on, and the weights; none if the run was complete before."""
    keras.utils.set_random_seed(recipe.seed)
    task = parts.build_task(recipe, precision)
    devices.check_batch(recipe.batch_size, task.multiple)
    if validation is not None and len(validation) % task.multiple:
        left = len(validation) % task.multiple
        say(f"{left} of {len(validation)} images of {validation.name} left out of validation")
    loader = parts.pretrain_loader(recipe, source, task, devices.shard)
    rate = parts.schedule(recipe, len(source))
    optimizer = parts.pretrain_optimizer(recipe, task, rate)
    task.compile(optimizer=optimizer)
    run = {
        "source": source.name,
        **parts.identity(source),
        "num_examples": len(source),
        "validation": validation.name if validation else None,
        "validation_fingerprint": parts.fingerprint(validation),
        "backend": keras.backend.backend(),
        "precision": precision,
    }
    place.check_outside(source, validation)
    if devices.is_main:
        place.claim(recipe.to_json(), run, say)
    devices.wait()
    if place.finished:
        say(f"{recipe.name} is finished: {place.preset}")
        return None, run, None

    probed = None
    if probe:
        if validation is None or devices.job.processes > 1:
            raise ValueError("a probe needs images to validate on, and one process.")
        probed = OnlineProbe(task, recipe, source, validation, probe)

    def evaluate() -> dict[str, float]:
        if validation is None:
            return {}
        loss = parts.masked_loss(task, validation, recipe.batch_size, devices)
        return {"val_loss": loss, **(probed() if probed else {})}

    images = parts.some_images(validation or source, recipe, task.multiple)
    total = rate.total_steps
    every = round(total / loader.steps_per_epoch / PICTURES)
    hooks = [Curves(), *tensorboard_hook(place.path, say)] if devices.is_main else []
    if devices.job.processes == 1:  # a picture is computed by one
        hooks.insert(1, Reconstructions(images, every))
    trainer = Trainer(
        task,
        loader,
        total,
        place,
        evaluate,
        schedule=lambda step: float(rate(step)),
        hooks=hooks,
        columns=(COLUMN,) if probed else (),
        validation_every=validation_every,
        checkpoint_seconds=checkpoint_seconds,
        devices=devices,
    )
    say(
        f"{recipe.name}: {total} steps of {recipe.batch_size} images from {source.name} "
        f"({len(source)}), peak learning rate {recipe.peak_learning_rate:.3g}, "
        f"{run['backend']} backend, {precision}, {devices}"
    )
    trainer.run()
    if trainer.state["step"] < total:
        raise RunError(f"the run ended at step {trainer.state['step']} of {total}.")
    return trainer, run, export.whole_weights(task, devices.whole)
