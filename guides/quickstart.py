"""`make quickstart`: what a pretrained preset is worth when labels are few.

Fine-tunes the bundled preset on the 1,000 labelled images that come with mimzoo, trains the same
network from scratch on the same images, and compares both on 10,000 test images. Then draws what
the preset makes of images with most patches hidden. Runs on any backend (KERAS_BACKEND).
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

STARTED = time.monotonic()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow, which KerasHub loads on every backend, logs past that level and past
# sys.stderr. An error still shows: it is raised, and printed later.
stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 2)
try:
    import keras
    import numpy as np
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    import mimzoo
finally:
    os.dup2(stderr, 2)

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # the tests run all of it, only smaller

PRESET = "vit_nano_mae_fmnist_20ep"
EPOCHS = 1 if FAST else 8
NUM_IMAGES = 100 if FAST else 1000
NUM_TEST_IMAGES = 100 if FAST else 10_000
BATCH_SIZE = 50
TEST_BATCH_SIZE = 50 if FAST else 500
WARMUP = 0.05  # of all steps
PICTURE = Path("quickstart.png")


@dataclass(frozen=True)
class Start:
    """Where a training starts from, and how fast it learns."""

    name: str
    seen: str
    load_weights: bool
    learning_rate: float
    layer_decay: float


# As benchmarks/few_labels.py, which trains for longer, on more seeds and learning rates. Layer-wise
# decay spares pretrained layers, and new ones need no sparing.
STARTS = (
    Start("from the preset", "60,000 images without labels", True, 1e-3, 0.75),
    Start("from scratch", "nothing", False, 1e-3, 1.0),
)


class Bar(keras.callbacks.Callback):
    """One bar over both trainings and tests; plain lines where the output is no terminal."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__()
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", total=total)

    def begin(self, name: str) -> None:
        """What comes now is called so."""
        self.name = name
        self.progress.update(self.task, description=f"{name}: compiling")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # The unit is an image's forward pass; the way back costs two more.
        self.progress.advance(self.task, 3 * BATCH_SIZE)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        text = f"{self.name}: epoch {epoch + 1} of {EPOCHS}"
        self.progress.update(self.task, description=text)
        if self.progress.disable and (epoch + 1) % 4 == 0:
            self.console.print(f"{text}, training accuracy {logs['accuracy']:.1%}", soft_wrap=True)

    def on_predict_begin(self, logs: dict | None = None) -> None:
        self.progress.update(self.task, description=f"{self.name}: testing")

    def on_predict_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.progress.advance(self.task, TEST_BATCH_SIZE)


def open_images() -> tuple[mimzoo.data.Source, mimzoo.data.Source]:
    """Labelled images to train on, and those for the test."""
    train, test = (mimzoo.data.open_source("embedded", split) for split in ("train", "test"))
    return (
        mimzoo.data.take_subset(train, count=NUM_IMAGES),
        mimzoo.data.take_subset(test, count=NUM_TEST_IMAGES),
    )


def train(start: Start, images: mimzoo.data.Source, bar: Bar) -> keras.Model:
    """A classifier, trained from that start. Images, order and augmentation are always the same."""
    bar.begin(start.name)
    keras.utils.set_random_seed(0)
    model = mimzoo.models.ImageClassifier.from_preset(
        PRESET,
        load_weights=start.load_weights,
        num_classes=images.num_classes,
        drop_path_rate=0.1,
    )
    augment = mimzoo.data.Compose([mimzoo.data.RandomFlip(), mimzoo.data.RandomCropPad(3)])
    loader = mimzoo.data.Loader(
        images, BATCH_SIZE, transform=augment, labels=True, epochs=None, seed=0
    )
    total = EPOCHS * loader.steps_per_epoch
    rate = mimzoo.optimizers.WarmupCosine(start.learning_rate, total, int(WARMUP * total))
    optimizer = mimzoo.optimizers.LayerDecayAdamW(model, rate, start.layer_decay)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(
        loader.dataset(),
        steps_per_epoch=loader.steps_per_epoch,
        epochs=EPOCHS,
        shuffle=False,  # the loader does
        callbacks=[bar],
        verbose=0,
    )
    return model


def accuracy(model: keras.Model, images: mimzoo.data.Source, bar: Bar) -> float:
    """Share of the images that the classifier gets right."""
    loader = mimzoo.data.Loader(images, TEST_BATCH_SIZE, shuffle=False)
    logits = model.predict(
        loader.dataset(), steps=loader.steps_per_epoch, callbacks=[bar], verbose=0
    )
    return float((logits.argmax(1) == images.labels).mean())


def draw_reconstructions(images: mimzoo.data.Source, path: Path) -> float:
    """One test image of each class: whole, as the preset sees it, and as it fills it in.

    Returns:
        The share of the patches that was hidden.
    """
    from matplotlib.figure import Figure

    task = mimzoo.pretraining.MAE.from_preset(PRESET)
    chosen = [np.flatnonzero(images.labels == label)[0] for label in range(images.num_classes)]
    pictures = task.reconstruct(np.stack([images.image(int(index)) for index in chosen]))
    rows = {"original": "original", "masked": "masked", "reconstruction": "reconstructed"}
    figure = Figure(figsize=(12, 4), layout="constrained")
    for (key, title), line in zip(rows.items(), figure.subplots(3, len(chosen)), strict=True):
        for axes, picture in zip(line, pictures[key], strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, fontsize=12)
        if key == "original":
            for axes, name in zip(line, images.class_names, strict=True):
                axes.set_title(name, fontsize=11)
    temporary = path.with_suffix(".tmp")
    figure.savefig(temporary, dpi=100, format="png")
    temporary.replace(path)
    return task.masking.mask_ratio


def results_table(results: dict[Start, float]) -> Table:
    """Both accuracies, side by side."""
    table = Table(
        title=f"{EPOCHS} epochs on {NUM_IMAGES:,} labelled images, {NUM_TEST_IMAGES:,} to test",
        title_justify="left",
    )
    table.add_column("the same network", no_wrap=True)
    table.add_column("saw before", no_wrap=True)
    table.add_column("test accuracy", justify="right", style="bold", no_wrap=True)
    for start, value in results.items():
        table.add_row(start.name, start.seen, f"{value:.1%}")
    return table


def main() -> None:
    """Runs the comparison."""
    console = Console(highlight=False)
    try:
        mimzoo.hub.resolve(PRESET)
    except ValueError as error:
        sys.exit(f"The quick start needs the bundled preset, and it is not here: {error}")
    images, test_images = open_images()
    backend = keras.backend.backend()
    console.print(f"mimzoo quick start on {backend}: two trainings, {EPOCHS} epochs each")
    bar = Bar(console, len(STARTS) * (3 * EPOCHS * NUM_IMAGES + NUM_TEST_IMAGES))
    results: dict[Start, float] = {}
    with bar.progress:
        for start in STARTS:
            model = train(start, images, bar)
            results[start] = accuracy(model, test_images, bar)
    hidden = draw_reconstructions(test_images, PICTURE)
    console.print(results_table(results))
    console.print(f"{PICTURE}: test images with {hidden:.0%} hidden, as the preset fills them in.")
    console.print(f"This took {time.monotonic() - STARTED:.0f} seconds. What to do next:")
    console.print("  python guides/finetune_your_images.py   the preset on your labelled images")
    console.print("  python guides/pretrain_your_images.py   a preset of your unlabelled images")


if __name__ == "__main__":
    main()
