"""What mimzoo adds to what it stands on: importing, loading a preset, and `fit` around a step.

    KERAS_BACKEND=torch python -m benchmarks.overheads

- `import mimzoo` against `import keras_hub`, each in processes of their own, in turn;
- `from_preset` of a ViT-B against reading the bytes of its files and copying them into arrays of
  the same sizes;
- `fit` on the loader's batches against a loop of compiled steps on one batch that lies ready, for
  a task whose step takes about 50 ms.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from benchmarks.side_by_side import interleave


def imports(rounds: int) -> None:
    """Prints the ratio of the two imports."""

    def run(module: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True)

    names = ("keras_hub", "mimzoo")
    timings = interleave({n: lambda n=n: run(n) for n in names}, rounds, warmup=1)
    theirs, ours = (t.median for t in timings)
    print(f"import mimzoo: {ours / theirs:.3f} x import keras_hub ({theirs:.1f} s)")


def loading(rounds: int, size: str) -> None:
    """Prints the ratio of loading a preset to reading its bytes."""
    from mimzoo.models import ViTBackbone

    with tempfile.TemporaryDirectory() as folder:
        ViTBackbone.from_size(size, image_shape=(224, 224, 3)).save_to_preset(folder)
        files = [p for p in Path(folder).iterdir() if p.suffix == ".h5"]

        def read() -> None:
            for path in files:
                data = np.frombuffer(path.read_bytes(), np.uint8)
                np.array(data)

        def load() -> None:
            ViTBackbone.from_preset(folder)

        timings = interleave({"bytes": read, "from_preset": load}, rounds)
        megabytes = sum(p.stat().st_size for p in files) / 1e6
    bytes_, preset = (t.median for t in timings)
    print(
        f"from_preset of ViT-{size}: {preset / bytes_:.2f} x reading {megabytes:.0f} MB "
        f"({preset:.2f} s against {bytes_:.2f} s)"
    )


def fitting(rounds: int, steps: int, batch: int) -> None:
    """Prints what `fit` adds to each step."""
    import keras
    from mimzoo_training import parts
    from mimzoo_training.recipes import get_recipe

    from mimzoo.data import ArraySource

    recipe = get_recipe("vit_nano_mae_fmnist_10000it").with_changes(batch_size=batch)
    images = np.random.default_rng(0).integers(0, 256, (batch * 8, 28, 28, 3), "uint8")
    source = ArraySource(images, name="noise")
    task = parts.build_task(recipe)
    task.compile(parts.pretrain_optimizer(recipe, task, parts.schedule(recipe, len(source))))
    loader = parts.pretrain_loader(recipe, source, task)
    bare = compiled_loop(task, keras.tree.map_structure(np.asarray, loader.batch(0)))

    def fit(count: int) -> None:
        keras.Model.fit(
            task, loader.dataset(), steps_per_epoch=count, epochs=1, verbose=0, shuffle=False
        )

    # Two lengths of `fit`: their difference leaves out what it does once a call.
    calls = {
        "bare": lambda: bare(2 * steps),
        "short": lambda: fit(steps),
        "long": lambda: fit(3 * steps),
    }
    alone, short, long = interleave(calls, rounds, warmup=1)
    differences = [b - a for a, b in zip(short.seconds, long.seconds, strict=True)]
    ratios = [d / s for d, s in zip(differences, alone.seconds, strict=True)]
    low, middle, high = quantiles(ratios)
    print(
        f"fit on {keras.config.backend()}: {middle - 1:+.1%} around a step of "
        f"{1e3 * alone.median / (2 * steps):.0f} ms "
        f"(half of the rounds {low - 1:+.1%} to {high - 1:+.1%})"
    )


def compiled_loop(task: Any, batch: Any) -> Callable[[int], None]:
    """A call that does so many training steps of a task on one batch, with no trainer around."""
    import keras

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        # Keras takes the state in four lists and gives it back alike.
        groups = (
            task.trainable_variables,
            task.non_trainable_variables,
            task.optimizer.variables,
            task.metrics_variables,
        )
        step = jax.jit(task.train_step, donate_argnums=0)

        def loop(count: int) -> None:
            state = tuple([v.value for v in group] for group in groups)
            for _ in range(count):
                _, state = step(state, (batch,))
            for variable, value in zip(chain(*groups), chain(*state), strict=True):
                variable.assign(value)
            jax.block_until_ready(state)

        return loop
    if backend == "tensorflow":
        import tensorflow

        batch = keras.tree.map_structure(tensorflow.convert_to_tensor, batch)
        step = tensorflow.function(task.train_step, jit_compile=task.jit_compile)
    else:
        step = task.train_step

    def loop(count: int) -> None:
        for _ in range(count):
            logs = step((batch,))
        keras.tree.map_structure(keras.ops.convert_to_numpy, logs)

    return loop


def main(argv: list[str] | None = None) -> None:
    """Measures on the backend of this process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="base")
    parser.add_argument("--steps", type=int, default=20)
    # On JAX a step takes half of torch's time.
    batch = 32 if os.environ.get("KERAS_BACKEND") == "jax" else 16
    parser.add_argument("--batch-size", type=int, default=batch, help="of the step in `fit`")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    imports(args.rounds)
    if os.environ.get("KERAS_BACKEND") == "torch":
        import torch

        torch.set_num_threads(args.threads)
    loading(args.rounds, args.size)
    fitting(3 * args.rounds, args.steps, args.batch_size)


if __name__ == "__main__":
    start = time.monotonic()
    main()
    print(f"{time.monotonic() - start:.0f} s in all")
