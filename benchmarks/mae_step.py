"""A training step of MAE beside `transformers.ViTMAEForPreTraining`, eager and compiled.

    python -m benchmarks.mae_step --size tiny --batch-size 16 --backends torch jax tensorflow

Each backend runs in a process of its own, with both peers in it; steps take turns. What counts
is the ratio to the faster peer: above 1, mimzoo is faster.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

BACKENDS = ("torch", "jax", "tensorflow")


def our_step(size: str, batch_size: int, image_size: int, compiled: bool) -> tuple:
    """A call that trains our task for one step, and the task."""
    import keras
    import numpy as np

    from mimzoo.models import ViTBackbone
    from mimzoo.pretraining import MAE

    keras.utils.set_random_seed(0)
    backbone = ViTBackbone.from_size(size, image_shape=(image_size, image_size, 3))
    task = MAE(backbone, preprocessor=None)
    task.compile(
        keras.optimizers.AdamW(1.5e-4, weight_decay=0.05, beta_2=0.95), jit_compile=compiled
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, image_size, image_size, 3)).astype("float32")
    inputs = {"images": images, "masks": task.draw_masks(np.arange(batch_size))}
    inputs = {k: keras.ops.convert_to_tensor(v) for k, v in inputs.items()}
    task.optimizer.build(task.trainable_variables)
    function = task.make_train_function() or task.train_function

    def step() -> None:
        float(keras.ops.convert_to_numpy(keras.Model.train_on_batch(task, inputs)))

    del function
    return step, task


def peer_step(size: str, batch_size: int, image_size: int, compiled: bool) -> object:
    """A call that trains transformers' ViTMAE for one step."""
    import torch
    import transformers

    from mimzoo.models.vit import vit_size

    c = vit_size(size)
    config = transformers.ViTMAEConfig(
        hidden_size=c["embed_dim"],
        num_hidden_layers=c["depth"],
        num_attention_heads=c["num_heads"],
        intermediate_size=4 * c["embed_dim"],
        image_size=image_size,
        patch_size=c["patch_size"],
        norm_pix_loss=True,
        layer_norm_eps=1e-6,
    )
    torch.manual_seed(0)
    model = transformers.ViTMAEForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1.5e-4, betas=(0.9, 0.95), weight_decay=0.05)
    run = torch.compile(model) if compiled else model
    pixels = torch.randn(batch_size, 3, image_size, image_size)

    def step() -> None:
        optimizer.zero_grad()
        loss = run(pixel_values=pixels).loss
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of the table for the backend of this process."""
    import keras
    import torch

    from benchmarks.flops import mae_step_flops
    from benchmarks.side_by_side import interleave

    backend = keras.config.backend()
    torch.set_num_threads(args.threads)
    shape = (args.size, args.batch_size, args.image_size)
    ours, task = our_step(*shape, compiled=args.jit)
    contenders = {f"mimzoo {backend}": ours, "transformers eager": peer_step(*shape, False)}
    if not args.no_compile:
        contenders["transformers compiled"] = peer_step(*shape, True)
    timings = interleave(contenders, args.rounds)
    best = min(t.median for t in timings[1:])
    flops = mae_step_flops(task, args.batch_size)
    return [
        {
            "backend": backend,
            "contender": t.name,
            "ratio to best peer": round(best / t.median, 3),
            "spread": round(t.spread, 3),
            "images/s": round(args.batch_size / t.median, 2),
            "GFLOP/s": round(flops / t.median / 1e9, 1),
        }
        for t in timings
    ]


def main(argv: list[str] | None = None) -> None:
    """Measures each backend in a process of its own and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--jit", action="store_true", help="compile ours on torch, too")
    parser.add_argument("--csv", type=Path, help="write the table here")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.in_process:
        args.jit = args.jit or os.environ["KERAS_BACKEND"] != "torch"
        print("ROWS " + json.dumps(measure(args)))
        return
    rows = []
    for backend in args.backends:
        given = argv if argv is not None else sys.argv[1:]
        command = [sys.executable, "-m", "benchmarks.mae_step", *given, "--in-process"]
        done = subprocess.run(
            command,
            env={**os.environ, "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        line = next(x for x in done.stdout.splitlines() if x.startswith("ROWS "))
        rows += json.loads(line.removeprefix("ROWS "))
    show(rows)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def show(rows: list[dict]) -> None:
    """Prints rows as an aligned table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(str(v) for v in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
