"""A training step of mimzoo beside the same model of `transformers`, eager and compiled.

    python -m benchmarks.train_step --case mae --size tiny --batch-size 16
    python -m benchmarks.train_step --case simmim --size tiny --batch-size 8

Each backend runs in a process of its own, with both peers in it; steps take turns. What counts
is the ratio to the faster peer: above 1, mimzoo is faster.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES

BACKENDS = ("torch", "jax", "tensorflow")


def our_step(task: Any, inputs: dict, compiled: bool) -> Callable[[], None]:
    """A call that trains our task for one step."""
    import keras

    task.compile(jit_compile=compiled)
    inputs = {k: keras.ops.convert_to_tensor(v) for k, v in inputs.items()}

    def step() -> None:
        float(keras.ops.convert_to_numpy(keras.Model.train_on_batch(task, inputs)))

    return step


def peer_step(model: Any, inputs: dict, compiled: bool) -> Callable[[], None]:
    """A call that trains transformers' model for one step."""
    import torch

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1.5e-4, betas=(0.9, 0.95), weight_decay=0.05)
    run = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        loss = run(**inputs).loss
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of the table for the backend of this process."""
    import copy

    import keras
    import torch
    from mimzoo_training.flops import step_flops

    from benchmarks.side_by_side import interleave

    keras.utils.set_random_seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    backend = keras.config.backend()
    make, image_size = CASES[args.case]
    task, inputs, peer, peer_inputs = make(
        args.size, args.batch_size, args.image_size or image_size
    )
    contenders = {
        f"mimzoo {backend}": our_step(task, inputs, args.jit),
        "transformers eager": peer_step(peer, peer_inputs, False),
    }
    if not args.no_compile:
        contenders["transformers compiled"] = peer_step(copy.deepcopy(peer), peer_inputs, True)
    timings = interleave(contenders, args.rounds)
    best = min(t.median for t in timings[1:])
    flops = step_flops(task, args.batch_size)
    return [
        {
            "case": f"{args.case} {args.size}",
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
    parser.add_argument("--case", choices=tuple(CASES), default="mae")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, help="default: that of the method's paper")
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
        command = [sys.executable, "-m", "benchmarks.train_step", *given, "--in-process"]
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
