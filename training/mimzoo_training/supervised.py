"""The frame of fine-tuning: what runs of classifiers, segmenters and detectors have in common."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from mimzoo.data import Loader, Source
from mimzoo.hub import resolve
from mimzoo.hub.contents import OURS, Contents
from mimzoo.hub.licences import UNKNOWN
from mimzoo_training import classify, export, parts
from mimzoo_training.distribution import Devices
from mimzoo_training.loop import Trainer
from mimzoo_training.pictures import Curves, tensorboard_hook
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.runner import PRECISIONS
from mimzoo_training.workdir import Workdir, write_json


class Measured(NamedTuple):
    """What a finished model reaches.

    Attributes:
        metric: its name in results.json.
        value: in [0, 1].
        words: the metric's name in the last line.
        more: further entries of the result.
        text: a table by class.
    """

    metric: str
    value: float
    words: str
    more: dict[str, Any]
    text: str


@dataclasses.dataclass(kw_only=True)
class Job:
    """A preset, labelled images and what a task makes of them; a subclass for each task.

    Attributes:
        preset: name, folder or hf:// handle, or a backbone.
        recipe: of the task.
        source: to train on.
        validation: measured during training, or None.
        test: measured at the end, or None.
        num_classes: of the model.
        num_labels: how many images `source` was cut to, or None.
        from_scratch: new weights.
        linear_probe: the backbone stays as it is.
        devices: what the run computes on.
        metrics, columns, infix: of the log, see `Trainer`, and of the run's name; of the class.
    """

    preset: Any
    recipe: Recipe
    source: Source
    validation: Source | None
    test: Source | None
    num_classes: int
    num_labels: int | None = None
    from_scratch: bool = False
    linear_probe: bool = False
    devices: Devices = dataclasses.field(default_factory=Devices)

    metrics = ()
    columns = ()
    infix = "_ft_"

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the classes, where the model has as many as the source."""
        same = self.num_classes == self.source.num_classes
        return self.source.class_names if same else None

    def build(self, load_weights: bool, dtype: str) -> keras.Model:
        """The model, not compiled, with the preset's weights or new ones."""
        raise NotImplementedError

    def compile(self, model: keras.Model, optimizer: Any) -> None:
        """Compiles it with the recipe's loss."""
        raise NotImplementedError

    def loader(self) -> Loader:
        """Augmented batches, without end."""
        raise NotImplementedError

    def validate(self, model: keras.Model) -> dict[str, float]:
        """{"val_loss", …} on `validation`."""
        raise NotImplementedError

    def measure(self, model: keras.Model) -> Measured:
        """What a compiled float32 model reaches on `test`."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What a record of the run keeps beyond what all runs do."""
        return {}

    def default_interval(self, epochs: float) -> int:
        """Epochs between two validations in a run of so many, where nothing else is asked for."""
        return 1

    def pictures(self, epochs: float) -> list[Any]:
        """What draws pictures in a run of so many epochs, see `Trainer`."""
        return []

    def instead(
        self, model: keras.Model, place: Workdir, command: str, say: Callable[[str], None]
    ) -> bool:
        """Does what the run needs in place of training, and says whether that was all."""
        return False


def train(
    job: Job,
    place: Workdir,
    *,
    precision: str,
    validation_every: int | None,
    checkpoint_seconds: float,
    command: str,
    say: Callable[[str], None],
) -> Workdir:
    """Trains and measures a model and writes its preset, or resumes the run in the folder.

    Args:
        job: what and how.
        place: the work directory.
        precision: "float32" or "mixed_bfloat16".
        validation_every: epochs between two validations; None: as the job says.
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
    source, devices = job.source, job.devices
    say = devices.voice(say)
    # Reads all files of the preset: what is wrong with one is said before hours of training.
    licence = OURS if job.from_scratch else _licence(job.preset)
    devices.check_batch(job.recipe.batch_size)
    with devices.scope():
        keras.utils.set_random_seed(job.recipe.seed)
        model = job.build(not job.from_scratch, precision)
        recipe = job.recipe = _named(job, model)
        run = {
            "source": source.name,
            **parts.identity(source),
            "num_examples": len(source),
            "num_classes": job.num_classes,
            "classes": None if job.names is None else list(job.names),
            "validation": job.validation.name if job.validation else None,
            "validation_fingerprint": parts.fingerprint(job.validation),
            "start": _start(job),
            "start_weights": classify.weights_digest(job.preset),
            "backend": keras.backend.backend(),
            "precision": precision,
            **job.facts(),
        }
        place.check_outside(source, job.validation, job.test)
        if devices.is_main:
            place.claim(recipe.to_json(), run, say)
        devices.wait()
        if place.finished:
            say(f"{recipe.name} is finished: {place.path}")
            return place
        if job.instead(model, place, command, say):
            return place

        loader = job.loader()
        rate = parts.schedule(recipe, len(source))
        job.compile(model, classify.finetune_optimizer(recipe, model, rate))
        epochs = rate.total_steps / loader.steps_per_epoch
        hooks = [Curves(), *tensorboard_hook(place.path, say)]
        trainer = Trainer(
            model,
            loader,
            rate.total_steps,
            place,
            lambda: job.validate(model) if job.validation is not None else {},
            schedule=lambda step: float(rate(step)),
            hooks=hooks if devices.is_main else [],
            pictures=job.pictures(epochs),
            metrics=job.metrics,
            columns=job.columns,
            validation_every=validation_every or job.default_interval(epochs),
            checkpoint_seconds=checkpoint_seconds,
            devices=devices,
        )
        say(
            f"{recipe.name}: {trainer.total_steps} steps of {recipe.batch_size} images from "
            f"{source.name} ({len(source)}, {job.num_classes} classes), peak learning rate "
            f"{recipe.peak_learning_rate:.3g}, {run['backend']} backend, {precision}, {devices}"
        )
        trainer.run()

        weights = export.whole_weights(model, devices.whole)
    if not devices.is_main:
        return place
    final = model
    if precision != "float32" or devices.count > 1:
        final = job.build(False, "float32")
        export.set_weights(final, weights, "float32")
    job.compile(final, "sgd")
    found = job.measure(final) if job.test is not None else None
    results = []
    if found is not None:
        seconds = {"training_seconds": round(trainer.state["seconds"], 1)}
        results = [result(job, found.metric, found.value, command, **seconds, **found.more)]
    stored = {**run, "start_licence": licence}
    export.write_preset(trainer, final, recipe, stored, results, "float32")
    write_json(place.path / "results.json", results)
    value = f", {found.words} {found.value:.4f} on {len(job.test)} images" if found else ""
    say(f"{recipe.name} is finished: {place.preset}{value}")
    if found is not None:
        say(found.text)
    return place


def result(job: Job, metric: str, value: float, command: str, **more: Any) -> dict:
    """An entry of results.json about `test`."""
    on = f"{job.test.name} ({len(job.test)} images)"
    return export.result(metric, value, on, command, backend=keras.backend.backend(), **more)


def check_precision(precision: str) -> None:
    """Raises ValueError unless a run can have this precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")


def _start(job: Job) -> str:
    """What the run begins from, as its name has it."""
    backbone = isinstance(job.preset, keras.Model)
    start = "backbone" if backbone else classify.preset_name(job.preset)
    return start + "_scratch" * job.from_scratch + "_probe" * job.linear_probe


def _named(job: Job, model: keras.Model) -> Recipe:
    """The recipe with the run's name: <start>_ft_<data>_<pixels>, and what was changed."""
    recipe = classify.with_statistics_of(job.recipe, model)
    name = classify.run_name(recipe, _start(job), job.num_labels)
    return dataclasses.replace(recipe, name=name.replace("_ft_", job.infix, 1))


def _licence(preset: Any) -> str:
    """Of the weights that a run began with, which what it makes of them keeps."""
    if isinstance(preset, keras.Model):
        return UNKNOWN
    return Contents.read(resolve(preset)).licence
