"""What the bundled preset is worth with 1,000 labels, against the same network from scratch.

    python -m benchmarks.few_labels

Both sides have the same images, augmentation and length. Each side's learning rate is the one
with the best accuracy of seed 0 on 2,000 held-out *training* images; what counts is the accuracy
on the 10,000 test images at that rate, over three seeds. The linear probe compares frozen
features of the preset and of a random network in the same way. Every run is a row of the CSV;
rows that exist are not run again.
"""

import argparse
import csv
import time
from pathlib import Path
from statistics import mean, stdev

PRESET = "vit_nano_mae_fmnist_20ep"
SIDES = ("preset", "scratch")
RATES = (5e-4, 1e-3, 2e-3)
SEEDS = (0, 1, 2)
BATCH_SIZE = 50
FIELDS = ("kind", "side", "learning_rate", "seed", "validation", "test", "seconds", "backend")


def finetune(side: str, rate: float, seed: int, epochs: int) -> tuple[float, float]:
    """Accuracy on held-out and test images after training on 1,000 of the embedded ones."""
    import keras

    import mimzoo

    keras.utils.set_random_seed(seed)
    pretrained = side == "preset"
    model = mimzoo.models.ImageClassifier.from_preset(
        PRESET, load_weights=pretrained, num_classes=10, drop_path_rate=0.1
    )
    data = mimzoo.data
    augment = data.Compose([data.RandomFlip(), data.RandomCropPad(3)])
    loader = data.Loader(
        data.open_source("embedded", "train"),
        BATCH_SIZE,
        transform=augment,
        normalize=_normalize(model),
        labels=True,
        epochs=None,
        seed=seed,
    )
    total = epochs * loader.steps_per_epoch
    schedule = mimzoo.optimizers.WarmupCosine(rate, total, int(0.05 * total))
    decay = 0.75 if pretrained else 1.0
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
    return accuracy(model, "validation"), accuracy(model, "test")


def accuracy(model: object, split: str) -> float:
    """Share of a split of the embedded images that a classifier gets right."""
    import keras

    from mimzoo.data import Loader, open_source

    source = open_source("embedded", split)
    loader = Loader(source, 500, shuffle=False, drop_remainder=False, normalize=_normalize(model))
    logits = keras.Model.predict(model, loader.dataset(), steps=loader.steps_per_epoch, verbose=0)
    return float((logits.argmax(1) == source.labels).mean())


def probe(side: str, seed: int) -> tuple[float, float]:
    """The same of a linear probe on frozen features, trained on the same 1,000 images."""
    import keras

    import mimzoo
    from mimzoo.downstream import extract_features, linear_probe

    keras.utils.set_random_seed(seed)
    model = mimzoo.models.ImageClassifier.from_preset(
        PRESET, load_weights=side == "preset", num_classes=10
    )

    def features(name: str) -> tuple:
        loader = mimzoo.data.Loader(
            mimzoo.data.open_source("embedded", name),
            500,
            shuffle=False,
            drop_remainder=False,
            labels=True,
            normalize=_normalize(model),
        )
        return extract_features(model.backbone, loader, "avg")

    train = features("train")
    return tuple(
        linear_probe(*train, *features(split), num_classes=10) for split in ("validation", "test")
    )


def _normalize(model: object) -> object:
    from mimzoo.data import Normalize

    converter = model.preprocessor.image_converter
    return Normalize(converter.mean, converter.std)


class Rows:
    """The CSV of runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = list(csv.DictReader(path.open())) if path.exists() else []

    def get(self, kind: str, side: str, rate: float | str, seed: int) -> tuple | None:
        """Both accuracies of a run, or None."""
        key = (kind, side, str(rate), str(seed))
        for row in self.rows:
            if tuple(row[f] for f in FIELDS[:4]) == key:
                return float(row["validation"]), float(row["test"])
        return None

    def add(self, **row: object) -> None:
        """Writes a run down."""
        import keras

        row["backend"] = keras.config.backend()
        self.rows.append({k: str(v) for k, v in row.items()})
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)
        print({k: row[k] for k in FIELDS}, flush=True)


def run(rows: Rows, kind: str, side: str, rate: float | str, seed: int, epochs: int) -> tuple:
    """One run, unless it is there."""
    found = rows.get(kind, side, rate, seed)
    if found is None:
        start = time.monotonic()
        found = probe(side, seed) if kind == "probe" else finetune(side, rate, seed, epochs)
        rows.add(
            kind=kind,
            side=side,
            learning_rate=rate,
            seed=seed,
            validation=found[0],
            test=found[1],
            seconds=round(time.monotonic() - start),
        )
    return found


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", type=Path, default=Path("few_labels.csv"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    args = parser.parse_args(argv)
    rows, summary = Rows(args.csv), {}
    for side in args.sides:
        held_out = {
            rate: run(rows, "finetune", side, rate, 0, args.epochs)[0] for rate in args.rates
        }
        best = max(held_out, key=held_out.get)
        print(f"{side}: learning rate {best} ({held_out[best]:.4f} on held-out training images)")
        summary["finetune", side] = [
            run(rows, "finetune", side, best, seed, args.epochs)[1] for seed in SEEDS
        ]
        summary["probe", side] = [run(rows, "probe", side, "", s, 0)[1] for s in SEEDS]
    for (kind, side), values in summary.items():
        print(f"{kind:9s} {side:8s} {mean(values):.4f} ± {stdev(values):.4f}  {values}")


if __name__ == "__main__":
    main()
