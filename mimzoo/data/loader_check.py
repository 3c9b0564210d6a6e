"""What the arguments of a loader have to be."""

from typing import Any

import numpy as np

from mimzoo.data.transform import boxes_left_behind, check_for_label_maps


def check_weights(weights: np.ndarray, name: str) -> None:
    """Raises ValueError for weights that are negative or not finite."""
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"{name} has numbers that are negative or not finite.")


def check_loader(loader: Any, max_corrupt: float, multiple: int) -> None:
    """Raises ValueError where the arguments of a `Loader` contradict each other."""
    count, name = len(loader.source), loader.source.name
    if loader.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {loader.batch_size}")
    if count == 0:
        raise ValueError(f"{name} has no examples")
    if multiple < 1 or loader.batch_size % multiple:
        raise ValueError(
            f"batch_size must be a multiple of {multiple}, got {loader.batch_size}: choose "
            f"{max(1, loader.batch_size // max(multiple, 1)) * multiple}, for example"
        )
    if count < multiple:
        raise ValueError(f"{name} has {count} examples, and {multiple} are needed at a time")
    if loader.source.boxed and loader.batch_transform:
        raise ValueError("batch_transform would leave boxes where they are: leave it out")
    if loader.source.boxed and loader.transform and not hasattr(loader.transform, "with_boxes"):
        raise ValueError(boxes_left_behind(loader.transform))
    if loader.dense and loader.batch_transform:
        raise ValueError("batch_transform would leave label maps as they are: leave it out")
    if loader.dense and loader.transform is not None:
        check_for_label_maps(loader.transform)
    if loader.drop_remainder and count < loader.batch_size:
        raise ValueError(
            f"{name} has {count} examples, fewer than batch_size {loader.batch_size}; "
            f"give a batch_size of at most {count}, or drop_remainder=False"
        )
    for what, values in (("labels", loader.labels), ("sample weights", loader.sample_weight)):
        if values is not None and len(values) != count:
            raise ValueError(
                f"{name} has {count} examples, and there are {len(values)} {what}: give one "
                "for each"
            )
    if loader.epochs is not None and loader.epochs < 1:
        raise ValueError(f"epochs must be at least 1, or None for no end, got {loader.epochs}")
    if loader.start_step < 0 or loader.num_threads < 0:
        raise ValueError("start_step and num_threads cannot be negative")
    if not 0 <= max_corrupt <= 1:
        raise ValueError(f"max_corrupt must be a share in [0, 1], got {max_corrupt}")
    if loader.draw is not None and loader.labels is not None:
        raise ValueError("give either draw (for pretraining) or labels, not both")
    plain = loader.labels is None and loader.draw is None
    if loader.pad_remainder and (plain or loader.drop_remainder):
        raise ValueError("pad_remainder needs labels or draw, and drop_remainder=False")
    if loader.sample_weight is not None:
        check_weights(np.asarray(loader.sample_weight), "sample_weight")
    if loader.sample_weight is not None and (plain or loader.pad_remainder):
        raise ValueError("sample_weight needs labels or draw, and no pad_remainder")
    number, parts = loader.shard
    if not 0 <= number < parts or loader.batch_size % parts:
        raise ValueError(
            f"part {number} of {parts} of a batch of {loader.batch_size}: batch_size must be a "
            f"multiple of the number of processes, and parts are numbered from 0"
        )
    if parts > 1 and not (loader.drop_remainder or loader.pad_remainder):
        raise ValueError("parts of a last, smaller batch differ: give pad_remainder=True")
