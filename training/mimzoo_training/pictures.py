"""Pictures and TensorBoard events that a run leaves while it trains."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo_training.files import write_file

# What `MIMTask.reconstruct` may give, from the top of a picture -> how it is called there.
ROWS = {
    "original": "original",
    "partner": "partner",
    "masked": "masked",
    "target": "target",
    "partner_target": "of partner",
    "reconstruction": "reconstruction",
    "partner_reconstruction": "of partner",
}


class Curves:
    """A hook that draws `curve.png`, at most once a minute and at the end.

    Args:
        every: seconds between two drawings.
    """

    def __init__(self, every: float = 60.0) -> None:
        self.every = every
        self.drawn = 0.0

    def __call__(self, trainer: Any, epoch: float) -> None:
        """Draws the log so far."""
        last = trainer.state["step"] == trainer.total_steps
        if last or time.monotonic() - self.drawn >= self.every:
            draw_curve(trainer.log.rows, trainer.workdir.path / "curve.png")
            self.drawn = time.monotonic()


def spread(total: int, count: int) -> np.ndarray:
    """(count,) places evenly spread over `total`: neighbours are of one class, or of one film."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int)


def draw_curve(rows: list[dict], path: Path) -> None:
    """Loss and validation loss over epochs, as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss")
    for name, label in (("loss", "training"), ("val_loss", "validation")):
        points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker="." if len(points) < 40 else "", label=label
            )
    if axes.lines:
        axes.legend()
    axes.grid(alpha=0.3)
    write_file(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


class Reconstructions:
    """A hook that draws `reconstruction_<epoch>.png`, about ten times in a run.

    Args:
        images: (N, H, W, 3) uint8, at the model's size.
        every: epochs between two pictures.
    """

    def __init__(self, images: np.ndarray, every: int) -> None:
        self.images = images
        self.every = max(1, every)

    def __call__(self, trainer: Any, epoch: float) -> None:
        """Draws what the model makes of the images now."""
        last = trainer.state["step"] == trainer.total_steps
        if last or (isinstance(epoch, int) and epoch % self.every == 0):
            pictures = trainer.model.reconstruct(self.images)
            draw_reconstruction(pictures, trainer.workdir.path / f"reconstruction_{epoch}.png")


def draw_reconstruction(pictures: dict[str, np.ndarray], path: Path) -> None:
    """A row each of originals, masked images, targets if shown and reconstructions, as a PNG file.

    Of MixMIM also the partners, and what the mixtures give of them.

    Args:
        pictures: of `MIMTask.reconstruct`.
        path: of the file.
    """
    from matplotlib.figure import Figure

    rows = [name for name in ROWS if name in pictures]
    count = len(pictures["original"])
    figure = Figure(figsize=(1.2 * count + 0.6, 1.33 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), count, squeeze=False)
    for name, line in zip(rows, grid, strict=True):
        for image, axes in zip(pictures[name], line, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(ROWS[name])
    write_file(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))


class TensorBoard:
    """A hook that writes the log's numbers as TensorBoard events, without TensorFlow's help.

    Args:
        folder: of the events; the file is opened with the first row.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.open = lambda: EventFileWriter(str(folder))
        self.writer: EventFileWriter | None = None

    def __call__(self, trainer: Any, epoch: float) -> None:
        """Writes the last row of the log."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        row = trainer.log.rows[-1]
        numbers = {k: v for k, v in row.items() if k != "step" and v is not None}
        summary = Summary(
            value=[Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        )
        self.writer = self.writer or self.open()
        self.writer.add_event(Event(wall_time=time.time(), step=row["step"], summary=summary))
        self.writer.flush()


def tensorboard_hook(folder: Path, say: Any) -> list[TensorBoard]:
    """[TensorBoard], or [] and a line where tensorboard is not installed."""
    try:
        return [TensorBoard(folder)]
    except ModuleNotFoundError:
        say("no TensorBoard events: `pip install tensorboard` for them.")
        return []
