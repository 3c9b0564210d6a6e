"""A step of mimzoo beside the same model of others: training or inference, side by side.

    python -m benchmarks.train_step --case mae --size tiny --batch-size 16
    python -m benchmarks.train_step --case simmim --size tiny --batch-size 8 --bf16
    python -m benchmarks.train_step --case finetune_vit --size tiny --backends torch

Each backend runs in a process of its own, with all peers in it; steps take turns. What counts is
the ratio to the fastest peer: above 1, mimzoo is faster. "of peak" is the share of what a large
matrix product reaches on this machine, by the operations of our formula. Memory is measured
in a process for each contender: the most that it took above what imports take (on a GPU: that
its allocator gave out), and its ratio to the leanest peer's: below 1, mimzoo takes less.
torch.compile'd peers stand in the rows of torch alone, to which the others can be compared through
the eager peer.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, Options
from benchmarks.device import PeakMemory, check_device, child_environment, matrix_peak

BACKENDS = ("torch", "jax", "tensorflow")
ROWS = "ROWS "


def options_of(args: argparse.Namespace) -> Options:
    """What the arguments say of the case."""
    import keras

    return Options(
        args.size,
        args.batch_size,
        args.image_size or CASES[args.case][1],
        args.bf16,
        args.jit,
        compiled=not args.no_compile and keras.config.backend() == "torch",
        official=args.official,
    )


def prepare(args: argparse.Namespace) -> Any:
    """The case, in a process with its backend, threads and precision."""
    import keras
    import torch

    check_device()
    keras.utils.set_random_seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    if args.bf16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    return CASES[args.case][0](options_of(args))


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of the table for the backend of this process."""
    import keras

    from benchmarks.side_by_side import interleave

    case = prepare(args)
    backend = keras.config.backend()
    timings = interleave({name: make() for name, make in case.contenders.items()}, args.rounds)
    peak, flops = matrix_peak(args.bf16), case.flops()
    best = min(
        (t.median for t in timings if not t.name.startswith("mimzoo")), default=timings[0].median
    )
    return [
        {
            "case": f"{args.case} {args.size}{' bf16' if args.bf16 else ''}",
            "backend": backend,
            "contender": t.name,
            "ratio to best peer": round(best / t.median, 3),
            "spread": round(t.spread, 3),
            "images/s": round(args.batch_size / t.median, 2),
            "GFLOP/s": round(flops / t.median / 1e9, 1),
            "of peak": round(flops / t.median / peak, 3),
        }
        for t in timings
    ]


def peak_memory(args: argparse.Namespace) -> dict[str, float]:
    """MB that one contender takes above the imports, in three steps."""
    case = prepare(args)
    import transformers  # noqa: F401

    peak = PeakMemory(of_torch=not args.contender.startswith(("mimzoo", "KerasHub")))
    step = case.contenders[args.contender]()
    for _ in range(3):
        step()
    return {args.contender: peak.bytes() / 1e6}


def child(argv: list[str], backend: str, *more: str) -> Any:
    """What `--in-process` prints, of a process on a backend."""
    command = [sys.executable, "-m", "benchmarks.train_step", *argv, "--in-process", *more]
    done = subprocess.run(
        command, env=child_environment(backend), stdout=subprocess.PIPE, text=True, check=True
    )
    line = next(x for x in done.stdout.splitlines() if x.startswith(ROWS))
    return json.loads(line.removeprefix(ROWS))


def with_memory(rows: list[dict], argv: list[str]) -> None:
    """Adds the columns of memory to the rows."""
    for backend in dict.fromkeys(row["backend"] for row in rows):
        group = [row for row in rows if row["backend"] == backend]
        taken: dict[str, float] = {}
        for row in group:
            taken |= child(argv, backend, "--contender", row["contender"])
        peers = (v for name, v in taken.items() if not name.startswith("mimzoo"))
        least = min(peers, default=taken["mimzoo"])
        for row in group:
            row["MB"] = round(taken[row["contender"]])
            row["memory ratio"] = round(taken[row["contender"]] / least, 3)


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
    parser.add_argument("--bf16", action="store_true", help="mixed precision, both sides")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--jit", action="store_true", help="compile ours on torch, too")
    parser.add_argument("--memory", action="store_true", help="measure peak memory, too")
    parser.add_argument("--official", help="folder of MixMIM's official code, for its case")
    parser.add_argument("--csv", type=Path, help="add the rows to this table")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    if args.in_process:
        print(ROWS + json.dumps(peak_memory(args) if args.contender else measure(args)))
        return
    rows = [row for backend in args.backends for row in child(argv, backend)]
    if args.memory:
        with_memory(rows, argv)
    show(rows)
    if args.csv:
        add_rows(rows, args.csv)


def add_rows(rows: list[dict], path: Path) -> None:
    """Puts rows into a table in place of older ones of the same case and backend."""
    old = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    new = {(row["case"], row["backend"]) for row in rows}
    kept = [row for row in old if (row["case"], row["backend"]) not in new] + rows
    names = list(dict.fromkeys(name for row in kept for name in row))
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    temporary.replace(path)


def show(rows: list[dict]) -> None:
    """Prints rows as an aligned table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(str(v) for v in row.values()))
    console = Console()
    # In a file, a table has room.
    (console if console.is_terminal else Console(width=160)).print(table)


if __name__ == "__main__":
    main()
