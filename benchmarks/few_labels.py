"""What a bundled preset is worth with 1,000 labels, against the same network from scratch.

    python -m benchmarks.few_labels --preset vit_nano_mae_fmnist_20ep
    python -m benchmarks.few_labels --preset runs/colour/preset --data cifar10/ --csv colour.csv

Both sides have the same images, augmentation and length. Each side's learning rate is the one
with the best accuracy of seed 0 on held-out *training* images (the embedded 2,000, or 5 % of
`--data`); what counts is the accuracy on the test images at that rate, over three seeds. The
linear probe compares frozen features of the preset and of a random network in the same way, with
all the 1,000 labels and with 10 of each class, drawn anew for each seed. Every run is a row of the
CSV; rows that exist are not run again.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.table import Table

SIDES = ("preset", "scratch")
RATES = (5e-4, 1e-3, 2e-3)
SEEDS = (0, 1, 2)
BATCH_SIZE = 50
LABELS = 1000
PROBE_LABELS = (100, LABELS)
HELD_OUT = 0.05
KEY = ("preset", "kind", "side", "labels", "learning_rate", "seed")
FIELDS = (*KEY, "validation", "test", "seconds", "backend")


def images_of(data: str, split: str) -> Any:
    """1,000 labelled training images, other ones for validation, or the test images."""
    from mimzoo.data import open_source, take_subset

    if data == "embedded" or split == "test":
        return open_source(data, split)
    source = open_source(data, split, holdout=HELD_OUT)
    return take_subset(source, count=LABELS) if split == "train" else source


def finetune(
    preset: str, data: str, side: str, rate: float, seed: int, epochs: int
) -> tuple[float, float]:
    """Accuracy on held-out and test images after training on 1,000 labels."""
    import keras
    from mimzoo_training.classify import recipe_for

    import mimzoo

    keras.utils.set_random_seed(seed)
    pretrained = side == "preset"
    recipe = recipe_for(preset)
    model = mimzoo.models.ImageClassifier.from_preset(
        preset,
        load_weights=pretrained,
        num_classes=10,
        drop_path_rate=recipe.drop_path_rate,
        head_init_std=recipe.head_init_std,
    )
    padding = 3 if data == "embedded" else model.backbone.image_shape[0] // 8
    crop = mimzoo.data.RandomCropPad(padding)
    augment = mimzoo.data.Compose([_resize(model), mimzoo.data.RandomFlip(), crop])
    loader = mimzoo.data.Loader(
        images_of(data, "train"),
        BATCH_SIZE,
        transform=augment,
        normalize=_normalize(model),
        labels=True,
        epochs=None,
        seed=seed,
    )
    total = epochs * loader.steps_per_epoch
    schedule = mimzoo.optimizers.WarmupCosine(rate, total, int(0.05 * total))
    decay = recipe.layer_decay if pretrained else 1.0
    optimizer = mimzoo.optimizers.LayerDecayAdamW(model, schedule, decay)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    keras.Model.fit(
        model,
        loader.dataset(),
        steps_per_epoch=loader.steps_per_epoch,
        epochs=epochs,
        verbose=0,
        shuffle=False,
    )
    return accuracy(model, data, "validation"), accuracy(model, data, "test")


def accuracy(model: object, data: str, split: str) -> float:
    """Share of a split that a classifier gets right."""
    import keras

    from mimzoo.data import Loader

    source = images_of(data, split)
    loader = Loader(
        source,
        500,
        transform=_resize(model),
        shuffle=False,
        drop_remainder=False,
        normalize=_normalize(model),
    )
    logits = keras.Model.predict(model, loader.dataset(), steps=loader.steps_per_epoch, verbose=0)
    return float((logits.argmax(1) == source.labels).mean())


def probe(preset: str, data: str, side: str, labels: int, seed: int) -> tuple[float, float]:
    """The same of a linear probe on frozen features, trained on `labels` of the same images."""
    import keras
    import numpy as np

    import mimzoo
    from mimzoo.downstream import extract_features, linear_probe

    keras.utils.set_random_seed(seed)
    model = mimzoo.models.ImageClassifier.from_preset(
        preset, load_weights=side == "preset", num_classes=10
    )

    def features(name: str) -> tuple:
        loader = mimzoo.data.Loader(
            images_of(data, name),
            500,
            transform=_resize(model),
            shuffle=False,
            drop_remainder=False,
            labels=True,
            normalize=_normalize(model),
        )
        return extract_features(model.backbone, loader, "avg")

    x, y = features("train")
    order = np.random.default_rng(seed).permutation(len(y))
    rows = np.concatenate([order[y[order] == c][: labels // 10] for c in range(10)])
    return tuple(
        linear_probe(x[rows], y[rows], *features(split), num_classes=10)
        for split in ("validation", "test")
    )


def _normalize(model: object) -> object:
    from mimzoo.data import Normalize

    converter = model.preprocessor.image_converter
    return Normalize(converter.mean, converter.std)


def _resize(model: object) -> object:
    from mimzoo.data import ResizeCrop

    return ResizeCrop(model.backbone.image_shape[0], 1.0)


def run(table: Table, key: tuple, work: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """One run, unless it is there."""
    import keras

    row = table.get(*key)
    if row is None:
        start = time.monotonic()
        validation, test = work()
        seconds = round(time.monotonic() - start)
        backend = keras.config.backend()
        row = table.add(*key, validation=validation, test=test, seconds=seconds, backend=backend)
    return float(row["validation"]), float(row["test"])


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="vit_nano_mae_fmnist_20ep")
    parser.add_argument("--data", default="embedded", help="or a folder with train/ and test/")
    parser.add_argument("--csv", type=Path, default=Path("few_labels.csv"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    args = parser.parse_args(argv)
    table, summary = Table(args.csv, KEY, FIELDS), {}

    def tuned(side: str, rate: float, seed: int) -> tuple[float, float]:
        key = (args.preset, "finetune", side, LABELS, rate, seed)
        return run(
            table, key, lambda: finetune(args.preset, args.data, side, rate, seed, args.epochs)
        )

    def probed(side: str, labels: int, seed: int) -> tuple[float, float]:
        key = (args.preset, "probe", side, labels, "", seed)
        return run(table, key, lambda: probe(args.preset, args.data, side, labels, seed))

    for side in args.sides:
        held_out = {rate: tuned(side, rate, 0)[0] for rate in args.rates}
        best = max(held_out, key=held_out.get)
        print(f"{side}: learning rate {best} ({held_out[best]:.4f} on held-out training images)")
        summary["finetune", LABELS, side] = [tuned(side, best, seed)[1] for seed in SEEDS]
        for labels in PROBE_LABELS:
            summary["probe", labels, side] = [probed(side, labels, s)[1] for s in SEEDS]
    for (kind, labels, side), values in sorted(summary.items()):
        spread = f"{mean(values):.4f} ± {stdev(values):.4f}"
        print(f"{kind:9s} {labels:5d} labels  {side:8s} {spread}  {values}")


if __name__ == "__main__":
    main()
