"""A training step of MixMIM beside SimMIM on the same Swin, and MAE on a ViT of like size.

    KERAS_BACKEND=torch python -m benchmarks.methods --batch-size 8

All at 224 px, steps in turn. What counts is the time per image relative to SimMIM, and the
floating-point operations that explain it.
"""

import argparse
import os

import numpy as np

# Swin-T with windows that tile its grids at 224 px; ViT-S has 22M weights, Swin-T 28M.
WINDOWS = (14, 14, 14, 7)


def tasks() -> dict:
    """name -> task."""
    from mimzoo.models import MixMIMBackbone, SwinBackbone, ViTBackbone
    from mimzoo.pretraining import MAE, MixMIM, SimMIM

    shape = (224, 224, 3)
    tiny = SwinBackbone.sizes["tiny"]

    def swin() -> SwinBackbone:
        return SwinBackbone(image_shape=shape, **tiny, window_size=WINDOWS)

    options = {"preprocessor": None, "compile": False}
    return {
        "SimMIM, Swin-T": SimMIM(swin(), **options),
        "MixMIM, Swin-T": MixMIM(swin(), **options),
        "MixMIM, its own backbone": MixMIM(
            MixMIMBackbone(shape, **tiny, window_size=WINDOWS), **options
        ),
        "MAE, ViT-S/16": MAE(ViTBackbone.from_size("small", image_shape=shape), **options),
    }


def main(argv: list[str] | None = None) -> None:
    """Measures on the backend of this process and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)

    import keras
    from mimzoo_training.flops import step_flops

    from benchmarks.side_by_side import interleave
    from benchmarks.steps import keras_step
    from benchmarks.train_step import show

    if keras.config.backend() == "torch":
        import torch

        torch.set_num_threads(args.threads)
    made = tasks()
    images = np.random.default_rng(0).normal(size=(args.batch_size, 224, 224, 3))
    steps = {}
    for name, task in made.items():
        inputs = {
            "images": images.astype("float32"),
            "masks": task.draw(np.arange(args.batch_size))["masks"],
        }
        steps[name] = keras_step(task, inputs)
    timings = interleave(steps, args.rounds)
    reference = timings[0].median
    rows = []
    for timing in timings:
        flops = step_flops(made[timing.name], 1)
        rows.append(
            {
                "task": timing.name,
                "weights, M": round(made[timing.name].count_params() / 1e6, 1),
                "GFLOP an image": round(flops / 1e9, 1),
                "time / SimMIM": round(timing.median / reference, 3),
                "spread": round(timing.spread, 3),
                "GFLOP/s": round(flops * args.batch_size / timing.median / 1e9, 1),
            }
        )
    show(rows)


if __name__ == "__main__":
    main()
