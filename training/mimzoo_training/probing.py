"""What a preset's frozen features are good for: a linear layer, and the nearest neighbours."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mimzoo.data import Loader, Source, take_subset
from mimzoo.data.classes import match_classes
from mimzoo_training import measure


def probe_preset(
    preset: str,
    source: Source,
    test: Source,
    *,
    labels: Sequence[int | None] = (None,),
    kinds: Sequence[str] = ("probe", "knn"),
    pooling: str = "avg",
    k: int = 20,
    seed: int = 0,
    batch_size: int = 256,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Accuracies of the frozen features of a preset, by one pass over the images.

    Args:
        preset: name, folder or hf:// handle.
        source: labelled images to train on.
        test: labelled images to test on.
        labels: numbers of training images, spread evenly over the classes; None: all.
        kinds: "probe": `mimzoo.downstream.linear_probe`; "knn": `knn_accuracy`.
        pooling: "avg" or "token".
        k: neighbours.
        seed: chooses the training images.
        batch_size: of the passes.
        say: gets a line for each accuracy.

    Returns:
        {"kind", "labels", "accuracy"} for each number of labels and kind.

    Raises:
        ValueError: no labels, more of them than there are, or an unknown preset.
    """
    from mimzoo.downstream import extract_features
    from mimzoo.downstream.feature_probe import KINDS
    from mimzoo.downstream.linear_probe import feature_model

    _ = source.labels  # says how labels are given where there are none
    test = match_classes(test, source.class_names, source.num_classes)
    task = measure.load_task(preset)
    rules = task.input_rules(training=False)
    model = feature_model(task.backbone, pooling)

    def features(images: Source) -> tuple[np.ndarray, np.ndarray]:
        loader = Loader(
            images,
            min(batch_size, len(images)),
            transform=rules.transform,
            normalize=rules.normalize,
            shuffle=False,
            drop_remainder=False,
            labels=True,
        )
        return extract_features(model, loader)

    sources = [
        (n, source if n is None else take_subset(source, count=n, seed=seed)) for n in labels
    ]
    tested, rows = features(test), []
    for number, part in sources:
        pair = (*features(part), *tested)
        for kind in kinds:
            options = {"k": k} if kind == "knn" else {}
            value = KINDS[kind](*pair, num_classes=source.num_classes, **options)
            rows.append({"kind": kind, "labels": number or len(source), "accuracy": value})
            name = "linear probe" if kind == "probe" else f"{min(k, len(part))} nearest neighbours"
            say(f"{name:22s} {len(part):7d} labels  accuracy {value:.4f}")
    return rows
