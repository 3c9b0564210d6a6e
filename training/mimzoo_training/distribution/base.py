"""What a run asks of its devices; here one device in one process."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from mimzoo.backend import sender
from mimzoo_training.distribution.environment import Job
from mimzoo_training.distribution.peaks import peak

# Steps between two questions whether a process is to stop, where asking costs time.
ASK_EVERY = 20


class Devices:
    """One process' view of the devices of a run.

    Attributes:
        job: which of how many processes this one is.
        local: how many devices this process computes on.
        kind: of device, such as "cpu", "gpu" or "tpu".
        name: of one device, as the backend gives it.
    """

    def __init__(
        self, job: Job | None = None, local: int = 1, kind: str = "cpu", name: str = ""
    ) -> None:
        self.job = job or Job()
        self.local = local
        self.kind = kind
        self.name = name

    @property
    def peak(self) -> float | None:
        """FLOP a second of all devices in bfloat16, where it is known."""
        one = peak(self.name)
        return one and one * self.count

    @property
    def count(self) -> int:
        """Devices of all processes."""
        return self.local * self.job.processes

    @property
    def replicas(self) -> int:
        """Parts that a batch is split into."""
        return self.count

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and talks."""
        return self.job.process == 0

    @property
    def shard(self) -> tuple[int, int]:
        """Which part of a batch this process loads."""
        return self.job.process, self.job.processes

    def voice(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say` of the one process that talks; the others are silent."""
        return say if self.is_main else lambda text: None

    def check_batch(self, batch_size: int, together: int = 1) -> None:
        """Raises ValueError unless a batch falls into equal parts.

        Args:
            batch_size: over all devices.
            together: examples that must stay on one device, such as MixMIM's pairs.
        """
        parts = self.replicas * together
        if batch_size % parts:
            pairs = f" in groups of {together}" if together > 1 else ""
            raise ValueError(
                f"a batch of {batch_size} cannot be spread evenly{pairs} over {self.replicas} "
                f"devices: give a --batch-size that is a multiple of {parts}."
            )

    def scope(self) -> contextlib.AbstractContextManager:
        """Where the model is made and trained."""
        return contextlib.nullcontext()

    def prepare(self, model: Any) -> None:
        """Called once the model is compiled and its optimizer built."""

    def dataset(self, loader: Any) -> Any:
        """What `fit` takes of a loader."""
        data, send = loader.dataset(), sender()
        return data if send is None else data.map(send)

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """Whether all processes are to stop, and to save, after this step.

        Args:
            step: that is done; the same for all processes.
            stop: whether this one got a signal to stop.
            save: whether it finds that a checkpoint is due.
        """
        return stop, save

    def whole(self, value: Any) -> np.ndarray:
        """A variable's value as an array; all processes must ask for it."""
        return np.array(keras.ops.convert_to_numpy(value), order="C")

    def results(self, model: Any, logs: dict) -> dict[str, float]:
        """Metrics over the rows of all processes so far; all processes must ask for them."""
        return {name: float(value) for name, value in logs.items()}

    def wait(self) -> None:
        """Until all processes are here."""

    def __str__(self) -> str:
        devices = f"{self.count} {self.kind} device" + ("s" if self.count > 1 else "")
        many = self.job.processes
        return f"{devices} in {many} processes" if many > 1 else devices


def too_few(wanted: int, found: int, kind: str) -> ValueError:
    """The error for devices that are not there."""
    return ValueError(f"--devices {wanted}: this process sees {found} {kind} devices.")
