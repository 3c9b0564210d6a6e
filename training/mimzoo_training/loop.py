"""`model.fit`, made so that it can stop after any step and resume as if nothing had happened.

A run is at most three calls of `fit`: the rest of an epoch that was cut off, whole epochs, and
the part of an epoch that a length in steps may end with.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from mimzoo.tasks.inputs import fed
from mimzoo_training import checkpoint
from mimzoo_training.distribution import Devices
from mimzoo_training.files import RunError
from mimzoo_training.flops import step_flops
from mimzoo_training.interrupt import Interrupted, SignalGuard
from mimzoo_training.log import Log
from mimzoo_training.progress import Progress
from mimzoo_training.workdir import Workdir

Hook = Callable[["Trainer", float], None]


class LazyCallbackList(keras.callbacks.CallbackList):
    """Hands the logs of a step on as they are.

    Keras turns them into numbers first, which makes the host wait for the device in every step.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """As in Keras, with tensors in `logs`."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs=logs)


@dataclass
class Trainer:
    """A run over a loader, and where it is.

    Attributes:
        model: compiled, its optimizer built.
        loader: with `epochs=None`.
        total_steps: of the run.
        workdir: where checkpoints and logs go.
        evaluate: measures "val_loss" and the like.
        schedule: step -> learning rate, for the log.
        hooks: called after each epoch's row, with the epoch.
        pictures: likewise, but before the epoch is validated, which may take longer than it.
        metrics: names of metrics that the model reports beside the loss.
        columns: names of what `evaluate` measures beyond that.
        validation_every: epochs between two validations; the end is always validated.
        checkpoint_seconds: between two checkpoints.
        devices: what the run computes on; one of its processes writes the files.
        state: step, seconds, best and last val_loss, sums over the unfinished epoch.
    """

    model: keras.Model
    loader: Any
    total_steps: int
    workdir: Workdir
    evaluate: Callable[[], dict[str, float]]
    schedule: Callable[[int], float]
    hooks: list[Hook] = field(default_factory=list)
    pictures: list[Hook] = field(default_factory=list)
    metrics: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    validation_every: int = 1
    checkpoint_seconds: float = 120.0
    devices: Devices = field(default_factory=Devices)
    state: dict = field(
        default_factory=lambda: {"step": 0, "seconds": 0.0, "best": None, "sums": {}, "count": 0}
    )
    log: Log | None = field(default=None, init=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a pass over the data."""
        return self.loader.steps_per_epoch

    def epoch(self, step: int) -> float:
        """Passes over the data after `step` steps; whole ones are integers."""
        epoch = step / self.steps_per_epoch
        return int(epoch) if epoch.is_integer() else round(epoch, 4)

    def run(self) -> None:
        """Trains to the end, from the last checkpoint if there is one.

        Raises:
            Interrupted: a signal came; all is saved.
            RunError: the loss or a weight is not finite, or a file cannot be written.
        """
        try:
            self._run()
        finally:
            if self.log is not None:
                self.log.flush()

    def _run(self) -> None:
        quiet = not self.devices.is_main
        self.progress = Progress(self.total_steps, self.loader.batch_size, quiet)
        folder = self.workdir.checkpoints
        found = checkpoint.resume(folder, self.model, self.progress.line)
        if found is not None:
            self.state = found
            self.progress.line(f"resumed at step {found['step']} of {self.total_steps}")
        step = self.progress.start(self.state["step"])
        self.saver = checkpoint.Saver(folder)
        self.devices.prepare(self.model)
        extra = tuple(f"{part}{name}" for name in self.metrics for part in ("", "val_"))
        extra += self.columns
        self.log = Log(self.workdir.path, step, extra, write=self.devices.is_main)
        if step >= self.total_steps:
            # The last checkpoint may be of before the weights were averaged.
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            return
        if self.devices.is_main:
            needed = checkpoint.missing_bytes(self.model, folder)
            self.workdir.require_space(needed + checkpoint.preset_bytes(self.model))
            checkpoint.save_model(folder, self.model)
        # In this thread an unreadable file is an error with its name, on every backend.
        self.loader.batch(step)
        with (
            SignalGuard() as guard,
            self.progress,
            _averages_last(self.model) as finish,
            fed(),
        ):
            callback = _Steps(self, guard)
            for initial, epochs, steps in segments(step, self.total_steps, self.steps_per_epoch):
                self.loader.start_step = self.state["step"]
                callback.segment_steps = steps
                keras.Model.fit(
                    self.model,
                    self.devices.dataset(self.loader),
                    initial_epoch=initial,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    callbacks=LazyCallbackList([callback], add_history=True, model=self.model),
                    shuffle=False,
                    verbose=0,
                )
                if self.model.stop_training:
                    break
            if self.state["step"] < self.total_steps:
                # Another process may have had the signal.
                number = guard.received or (signal.SIGTERM if self.model.stop_training else None)
                self.stop(number)
            finish()
        self.save()
        self.saver.wait()

    def save(self, best: bool = False) -> None:
        """Begins to write a checkpoint: one process for all, which may need the others' parts."""
        tensors = checkpoint.tensors(self.model, self.devices.whole)
        self.log.flush()
        if self.devices.is_main:
            self.saver.save(tensors, self.state, best)

    def stop(self, number: int | None) -> None:
        """Saves and raises Interrupted, or RunError if `fit` ended for no known reason."""
        self.save()
        self.saver.wait()
        step = self.state["step"]
        if number is None:
            raise RunError(f"training stopped unexpectedly at step {step} of {self.total_steps}.")
        raise Interrupted(
            f"stopped and saved at step {step} of {self.total_steps}; "
            "run the same command again to resume.",
            number,
        )


def segments(step: int, total: int, per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """(initial_epoch, epochs, steps_per_epoch) of the calls of `fit` from `step` to `total`."""
    if step % per_epoch and step < total:
        steps = min(per_epoch - step % per_epoch, total - step)
        yield step // per_epoch, step // per_epoch + 1, steps
        step += steps
    whole = (total - step) // per_epoch
    if whole > 0:
        yield step // per_epoch, step // per_epoch + whole, per_epoch
        step += whole * per_epoch
    if step < total:
        yield step // per_epoch, step // per_epoch + 1, total - step


@contextlib.contextmanager
def _averages_last(model: keras.Model) -> Iterator[Callable[[], None]]:
    """Keeps `fit` from putting a moving average in place: that is for the end of the run."""
    optimizer = model.optimizer
    finish = optimizer.finalize_variable_values
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield lambda: finish(model.trainable_variables)
    finally:
        del optimizer.finalize_variable_values


class _Steps(keras.callbacks.Callback):
    """Counts steps, watches the loss, and does at the end of an epoch what is due."""

    def __init__(self, trainer: Trainer, guard: SignalGuard) -> None:
        super().__init__()
        self.trainer, self.guard = trainer, guard
        self.segment_steps = 0
        self.saved = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.pending: list[tuple[int, Any]] = []
        self.logs: dict = {}
        self.done = 0
        self.due = False
        self.carried = (dict(self.trainer.state["sums"]), self.trainer.state["count"])
        self.before = self.trainer.state["seconds"]
        self.started = self.checked = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        state = self.trainer.state
        state["step"] += 1
        self.done += 1
        self.logs = logs
        self.pending.append((state["step"], logs["loss"]))
        now = time.monotonic()
        if now - self.checked >= 1.0 or len(self.pending) >= 100:
            self._check(now)
        due = now - self.saved >= self.trainer.checkpoint_seconds
        stop, save = self.trainer.devices.agree(
            state["step"], self.guard.received is not None, due and self.trainer.devices.is_main
        )
        if save and self.done == self.segment_steps:
            self.due = True  # a checkpoint at the end of an epoch comes after its line in the log
        elif save:
            if self.pending:  # no checkpoint of a loss that is not finite
                self._check(now)
            self._note_sums()
            self._save()
        if stop:
            self.model.stop_training = True

    def _check(self, now: float) -> None:
        """Reads the loss of the last step, and where it is not finite finds the first such."""
        trainer, (step, loss) = self.trainer, self.pending[-1]
        # Keras reports the mean over the epoch, so one bad step shows from there on.
        if not math.isfinite(float(loss)):
            step, loss = next((s, v) for s, v in self.pending if not math.isfinite(float(v)))
            self._diverged("loss", float(loss), step)
        self.pending.clear()
        self.checked = now
        trainer.state["seconds"] = self.before + now - self.started
        trainer.progress.update(step, step / trainer.steps_per_epoch, float(loss))

    def _diverged(self, name: str, value: float, step: int) -> None:
        self.trainer.saver.wait()
        advice = checkpoint.last_resort(self.trainer.workdir.checkpoints)
        raise RunError(f"the {name} is {value} at step {step}: the run is stopped; {advice}")

    def _note_sums(self) -> None:
        """Sums of the epoch so far, so that a resumed epoch's mean is over all of it."""
        sums, count = self.carried
        known = self.trainer.devices.results(self.model, self.logs)
        totals = {k: sums.get(k, 0.0) + v * self.done for k, v in known.items()}
        self.trainer.state.update(sums=totals, count=count + self.done)

    def _save(self, best: bool = False) -> None:
        # On JAX the weights travel from step to step outside of the model.
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.trainer.save(best)
        self.saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        trainer, state = self.trainer, self.trainer.state
        if self.pending:
            self._check(time.monotonic())
        self._note_sums()
        if self.done < self.segment_steps:
            return  # a signal came: the epoch is resumed another time
        trainer.progress.pause()
        seconds = state["seconds"] - self.before
        step, epoch = state["step"], trainer.epoch(state["step"])
        row = {name: total / state["count"] for name, total in state["sums"].items()}
        row |= {
            "step": step,
            "epoch": epoch,
            "lr": trainer.schedule(step),
            "images_per_second": round(self.done * trainer.loader.batch_size / seconds, 2),
            "images": step * trainer.loader.batch_size,
            "seconds": round(state["seconds"], 2),
        }
        if trainer.devices.peak:
            flops = step_flops(self.model, trainer.loader.batch_size) * self.done / seconds
            row["flop_utilisation"] = round(flops / trainer.devices.peak, 4)
        for picture in trainer.pictures if trainer.devices.is_main else ():
            picture(trainer, epoch)
        last, best = step == trainer.total_steps, False
        if last or math.ceil(epoch) % trainer.validation_every == 0:
            values = trainer.evaluate()
            row |= values
            if not math.isfinite(values.get("val_loss", 0.0)):
                self._diverged("val_loss", values["val_loss"], step)
            if "val_loss" in values:
                best = state["best"] is None or values["val_loss"] < state["best"]
                state["best"] = values["val_loss"] if best else state["best"]
        state.update(sums={}, count=0)
        trainer.log.add(row)
        trainer.progress.line(_sentence(row, trainer))
        for hook in trainer.hooks if trainer.devices.is_main else ():
            hook(trainer, epoch)
        # Several processes save when they agree to, within the next epoch; all know the best.
        due = time.monotonic() - self.saved >= trainer.checkpoint_seconds
        if best or self.due or (due and trainer.devices.job.processes == 1):
            self._save(best)
        trainer.progress.unpause()


def _sentence(row: dict, trainer: Trainer) -> str:
    names = ["loss", *trainer.metrics, "val_loss", *(f"val_{m}" for m in trainer.metrics)]
    names += trainer.columns
    values = "  ".join(f"{name} {row[name]:.4f}" for name in names if row.get(name) is not None)
    used = row.get("flop_utilisation")
    rate = f"{row['images_per_second']:.0f} images/s" + (f"  {used:.1%} of peak" if used else "")
    left = trainer.progress.left(row["step"])
    return f"epoch {row['epoch']}  {values}  {rate}{left}"
