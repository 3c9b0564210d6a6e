"""What the bundled preset is worth with 1,000 labels, against the same network from scratch.

    python -m benchmarks.few_labels

Both sides have the same images, augmentation and length. Each side's learning rate is the one
with the best mean accuracy on 2,000 held-out *training* images; then three seeds are measured
once on the 10,000 test images. The linear probe compares frozen features of the preset and of a
random network in the same way. Every run is a row of the CSV; rows that exist are not run again.
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
FIELDS = ("kind", "side", "learning_rate", "seed", "split", "accuracy", "seconds", "backend")


def finetune(side: str, rate: float, seed: int, split: str, epochs: int) -> float:
    """Accuracy on a split of the embedded images after training on 1,000 of them."""
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
        100,
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
    test = data.open_source("embedded", split)
    batches = data.Loader(
        test, 500, shuffle=False, drop_remainder=False, normalize=_normalize(model)
    )
    logits = keras.Model.predict(model, batches.dataset(), steps=batches.steps_per_epoch, verbose=0)
    return float((logits.argmax(1) == test.labels).mean())


def probe(side: str, seed: int, split: str) -> float:
    """Accuracy of a linear probe on frozen features, trained on the same 1,000 images."""
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

    return linear_probe(*features("train"), *features(split), num_classes=10)


def _normalize(model: object) -> object:
    from mimzoo.data import Normalize

    converter = model.preprocessor.image_converter
    return Normalize(converter.mean, converter.std)


class Rows:
    """The CSV of runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = list(csv.DictReader(path.open())) if path.exists() else []

    def get(self, kind: str, side: str, rate: float | str, seed: int, split: str) -> float | None:
        """The accuracy of a run, or None."""
        key = (kind, side, str(rate), str(seed), split)
        for row in self.rows:
            if tuple(row[f] for f in FIELDS[:5]) == key:
                return float(row["accuracy"])
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


def run(
    rows: Rows, kind: str, side: str, rate: float | str, seed: int, split: str, epochs: int
) -> float:
    """One run, unless it is there."""
    found = rows.get(kind, side, rate, seed, split)
    if found is None:
        start = time.monotonic()
        if kind == "probe":
            found = probe(side, seed, split)
        else:
            found = finetune(side, rate, seed, split, epochs)
        rows.add(
            kind=kind,
            side=side,
            learning_rate=rate,
            seed=seed,
            split=split,
            accuracy=found,
            seconds=round(time.monotonic() - start),
        )
    return found


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", type=Path, default=Path("few_labels.csv"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--choose-only", action="store_true", help="leave the test images alone")
    args = parser.parse_args(argv)
    rows, summary = Rows(args.csv), {}
    for side in args.sides:
        scores = {
            rate: run(rows, "finetune", side, rate, 0, "validation", args.epochs) for rate in RATES
        }
        best = max(scores, key=scores.get)
        print(f"{side}: learning rate {best} ({scores[best]:.4f} on held-out training images)")
        if args.choose_only:
            continue
        tests = [run(rows, "finetune", side, best, s, "test", args.epochs) for s in SEEDS]
        summary["finetune", side] = tests
        summary["probe", side] = [run(rows, "probe", side, "", s, "test", 0) for s in SEEDS]
    for (kind, side), values in summary.items():
        print(f"{kind:9s} {side:8s} {mean(values):.4f} ± {stdev(values):.4f}  {values}")


if __name__ == "__main__":
    main()
