"""What a small ViT learns from pixels, normalised pixels, HOG and a teacher's features.

    python -m benchmarks.targets --data cifar10-train.tar --workdir runs/targets

MAE with the same model, masks, images seen and schedule; only target and loss differ. The teacher
of the features is the model that was pretrained on normalised pixels with the same seed, so that
target has seen twice the images. Each encoder is fine-tuned on 1,000 labels of the images that it
was pretrained on, and probed with a linear layer on 5,000 of them; accuracies are on the part of
the data that was held out. Rows that stand in the CSV are not run again, so a stopped run
resumes.
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.table import Table

TARGETS = ("pixels", "normalized_patches", "hog", "features", "none")
SEEDS = (0, 1, 2)
KEY = ("target", "seed")
FIELDS = (*KEY, "fine-tuned", "probed", "images seen", "seconds", "backend")
MODEL = {"embed_dim": 64, "depth": 4, "num_heads": 2}
LABELS, PROBE_LABELS, RATE = 1_000, 5_000, 1e-3


def recipe_of(target: str, seed: int, length: str, teacher: str, train: Any) -> Any:
    """The nano recipe at 32 px with another target."""
    import numpy as np
    from mimzoo_training.recipes import get_recipe
    from mimzoo_training.recipes.objects import keras_object

    targets = {
        "pixels": keras_object("PixelTarget", normalize=False),
        "normalized_patches": keras_object("PixelTarget"),
        "hog": keras_object("HOGTarget", cell_size=4),
        "features": keras_object("FeatureTarget", teacher=teacher, dtype="float32"),
    }
    recipe = get_recipe("vit_nano_mae_fmnist_20ep").with_length(length)
    return dataclasses.replace(
        recipe.with_task(backbone=MODEL, target=targets[target]),
        name=f"vit_nano_mae-{target.replace('_', '-')}_cifar10_{length}_seed{seed}",
        data="cifar10",
        image_size=32,
        crop_padding=4,
        mean=tuple((train.images / np.float64(255)).mean((0, 1, 2)).tolist()),
        std=tuple((train.images / np.float64(255)).std((0, 1, 2)).tolist()),
        seed=seed,
        origin="ours: for this comparison",
        inferred={},
    )


def memory(source: Any) -> Any:
    """A source of small images with all of them decoded."""
    import numpy as np

    from mimzoo.data import ArraySource

    images = np.stack([example["image"] for example in source.fetch(range(len(source)))])
    return ArraySource(images, source.labels, source.class_names, source.name)


def classifier(preset: str | None, recipe: Any) -> Any:
    """The pretrained encoder with a new head, or one from scratch."""
    from mimzoo.models import ImageClassifier, ViTBackbone, ViTImageClassifier

    if preset is not None:
        return ImageClassifier.from_preset(preset, num_classes=10, drop_path_rate=0.1)
    shape = (recipe.image_size, recipe.image_size, 3)
    backbone = ViTBackbone.from_size(
        "nano", image_shape=shape, patch_size=4, drop_path_rate=0.1, **MODEL
    )
    return ViTImageClassifier(backbone, num_classes=10)


def finetuned(model: Any, recipe: Any, train: Any, test: Any, epochs: int, decay: float) -> float:
    """Accuracy after training on 1,000 labels."""
    import keras

    import mimzoo
    from mimzoo.data import Compose, Loader, Normalize, RandomCropPad, RandomFlip, take_subset

    loader = Loader(
        take_subset(train, count=LABELS, seed=recipe.seed),
        50,
        transform=Compose([RandomFlip(), RandomCropPad(4)]),
        normalize=Normalize(recipe.mean, recipe.std),
        labels=True,
        epochs=None,
        seed=recipe.seed,
    )
    total = epochs * loader.steps_per_epoch
    schedule = mimzoo.optimizers.WarmupCosine(RATE, total, int(0.05 * total))
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
    images = Normalize(recipe.mean, recipe.std)(test.images)
    logits = keras.Model.predict(model, images, batch_size=500, verbose=0)
    return float((logits.argmax(1) == test.labels).mean())


def probed(model: Any, recipe: Any, train: Any, test: Any) -> float:
    """Accuracy of a linear layer on frozen features."""
    from mimzoo.data import Loader, Normalize, take_subset
    from mimzoo.downstream import extract_features, linear_probe

    def features(source: Any) -> tuple:
        normalize = Normalize(recipe.mean, recipe.std)
        loader = Loader(
            source, 500, normalize=normalize, labels=True, shuffle=False, drop_remainder=False
        )
        return extract_features(model.backbone, loader, "avg")

    part = take_subset(train, count=PROBE_LABELS, seed=recipe.seed)
    return linear_probe(*features(part), *features(test), num_classes=10)


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, metavar="SOURCE", help="labelled 32 px images")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--csv", type=Path, default=Path("targets.csv"))
    parser.add_argument("--length", default="2ep")
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args(argv)
    os.environ.setdefault("KERAS_BACKEND", "torch")

    import keras
    from mimzoo_training.runner import pretrain

    from mimzoo.data import open_source

    table = Table(args.csv, KEY, FIELDS)
    train, test = (memory(open_source(args.data, s)) for s in ("train", "validation"))
    for seed in args.seeds:
        for target in TARGETS:
            if table.get(target, seed) is not None:
                continue
            start = time.monotonic()
            preset, seen = None, 0
            teacher = args.workdir / f"normalized_patches_{seed}" / "preset"
            recipe = recipe_of(
                "pixels" if target == "none" else target, seed, args.length, str(teacher), train
            )
            if target != "none":
                place = pretrain(recipe, train, args.workdir / f"{target}_{seed}", validation=test)
                preset = str(place.preset)
                seen = recipe.steps(len(train))[0] * recipe.batch_size
            keras.utils.set_random_seed(seed)
            model = classifier(preset, recipe)
            probe = probed(model, recipe, train, test)
            decay = 1.0 if preset is None else 0.75
            tuned = finetuned(model, recipe, train, test, args.epochs, decay)
            table.add(
                target,
                seed,
                **{
                    "fine-tuned": round(tuned, 4),
                    "probed": round(probe, 4),
                    "images seen": seen,
                    "seconds": round(time.monotonic() - start),
                    "backend": keras.config.backend(),
                },
            )
    table.show("target", ("fine-tuned", "probed"))


if __name__ == "__main__":
    main()
