"""One process of a small pretraining run, started by `benchmarks.distribution`.

    python distributed_run.py METHOD STEPS WORKDIR DEVICES MODEL_PARALLEL

Leaves the weights of this process in WORKDIR/process_<number>.npz, beside the run's own files.
"""

import dataclasses
import os
import sys
from pathlib import Path

import keras
import numpy as np

# As many images as make one step an epoch, and a part of a batch that is left over.
IMAGES, BATCH = int(os.environ.get("IMAGES", 20)), 16


def main(method: str, steps: str, workdir: str, devices: str, model_parallel: str) -> None:
    """Pretrains a model of one or two blocks on noise, as one process of the layout."""
    count = int(devices)
    if keras.config.backend() == "tensorflow" and count > 1:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    from mimzoo_training import distribution, export
    from mimzoo_training.recipes import get_recipe
    from mimzoo_training.runner import pretrain

    import mimzoo

    recipe = get_recipe(
        {
            "mae": "vit_nano_mae_fmnist_1it",
            "simmim": "swinv2_nano_simmim_fmnist_1it",
            "mixmim": "mixmim_nano_fmnist_1it",
        }[method]
    )
    small = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)}
    if method == "mae":
        small = {"embed_dim": 16, "depth": 2, "num_heads": 2}
    decoder = {} if method == "simmim" else {"decoder": {"embed_dim": 16}}
    recipe = dataclasses.replace(
        recipe.with_length(f"{steps}it").with_task(backbone=small, **decoder),
        batch_size=BATCH,
        warmup="2it",
        # Which examples lose their branches must not depend on the devices either.
        drop_path_rate=0.3,
    )
    rng = np.random.default_rng(0)
    source = mimzoo.data.ArraySource(
        rng.integers(0, 256, (IMAGES, 28, 28, 1), "uint8").repeat(3, -1), name="noise"
    )
    used = distribution.start(count, int(model_parallel))
    kept = {}

    def keep(model: keras.Model, whole: object) -> list:
        kept["weights"] = weights(model, whole)
        return kept["weights"]

    weights, export.whole_weights = export.whole_weights, keep
    pretrain(
        recipe,
        source,
        workdir,
        validation=source,
        validation_every=int(os.environ.get("VALIDATION_EVERY", steps)),
        checkpoint_seconds=float(os.environ.get("CHECKPOINT_SECONDS", 120)),
        devices=used,
    )
    np.savez(Path(workdir) / f"process_{used.job.process}.npz", *kept["weights"])


if __name__ == "__main__":
    main(*sys.argv[1:])
