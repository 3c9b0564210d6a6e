"""What a step costs on the host: a deep and narrow MAE, whose products take no time.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch python -m benchmarks.host_time

24 + 8 blocks of width 32 on 2 images of 32 px, one thread. Steps take turns; the numbers are
milliseconds of the process's own CPU time, and ratios to transformers' eager step. On a GPU the
host has this long to prepare a step.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

SIZE = {"patch_size": 4, "embed_dim": 32, "num_heads": 2}
SHAPE, BATCH, DEPTH, DECODER_DEPTH = (32, 32, 3), 2, 24, 8


def ours(**options: Any) -> Callable[[], None]:
    """A training step of mimzoo, as `fit` runs it; `options` are of `compile`."""
    import keras

    from benchmarks.steps import keras_step
    from mimzoo.models import ViTBackbone
    from mimzoo.pretraining import MAE
    from mimzoo.pretraining.decoders import MAEDecoder

    backbone = ViTBackbone(SHAPE, **SIZE, depth=DEPTH)
    task = MAE(
        backbone, decoder=MAEDecoder(32, DECODER_DEPTH, 2, name="decoder"), preprocessor=None
    )
    images = np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype("float32")
    inputs = {"images": images, **task.draw(np.arange(BATCH))}
    step = keras_step(task, keras.tree.map_structure(np.asarray, inputs))
    task.compile(task.optimizer, **options)
    return step


def theirs() -> Callable[[], None]:
    """A training step of transformers, eager."""
    import torch
    import transformers

    model = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            hidden_size=32,
            num_hidden_layers=DEPTH,
            num_attention_heads=2,
            intermediate_size=128,
            patch_size=4,
            image_size=32,
            norm_pix_loss=True,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=DECODER_DEPTH,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=128,
        )
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1.5e-4, betas=(0.9, 0.95), weight_decay=0.05)
    pixels = torch.randn(BATCH, 3, 32, 32)

    def step() -> None:
        optimizer.zero_grad()
        loss = model(pixel_values=pixels).loss
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def main(argv: list[str] | None = None) -> None:
    """Measures on torch and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--no-compile", action="store_true", help="without the compiled step")
    args = parser.parse_args(argv)

    import torch

    torch.set_num_threads(1)
    steps = {
        "transformers": theirs(),
        "mimzoo, layer by layer": ours(run_eagerly=True),
        "mimzoo, traced": ours(jit_compile=False),
    }
    if not args.no_compile:
        steps["mimzoo, compiled"] = ours(jit_compile=True)
    first, seconds = {}, {name: [] for name in steps}
    for name, step in steps.items():
        start = time.process_time()
        step()
        first[name] = time.process_time() - start
    for _ in range(args.rounds):
        for name, step in steps.items():
            step()
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    base = median(seconds["transformers"])
    for name, values in seconds.items():
        print(
            f"{name:24s} {1e3 * median(values):7.1f} ms  {median(values) / base:5.2f} x"
            f"  first step {first[name]:5.1f} s"
        )


if __name__ == "__main__":
    main()
