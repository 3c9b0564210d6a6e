"""A step of mimzoo beside the same model of others: training or inference, side by side.

    python -m benchmarks.train_step --case mae --size tiny --batch-size 16
    python -m benchmarks.train_step --case simmim --size tiny --batch-size 8 --bf16
    python -m benchmarks.train_step --case finetune_vit --size tiny --backends torch

Each contender runs in a process of its own, on its own library alone. All take their first step, in
which they compile, side by side; then they take turns: a step to get warm, then one that is timed.
What counts is the ratio to the fastest peer: above 1, mimzoo is faster. "kernels" are the
milliseconds that the device computed in a step, by torch's profiler, where it sees them. "of peak"
is the share of what a large matrix product reaches on this machine, by the operations of our
formula. Memory is the most that a process took above what imports take (on a GPU: that its
allocator gave out), and its ratio to the leanest peer's: below 1, mimzoo takes less. Where there
is no peer, there are no ratios.
torch.compile'd peers stand in the rows of torch alone, to which the others can be compared through
the eager peer.
"""

import argparse
import contextlib
import csv
import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.cases import CASES, Options
from benchmarks.device import (
    PeakMemory,
    check_device,
    child_environment,
    kernel_seconds,
    matrix_peak,
    torch_device,
)
from benchmarks.side_by_side import interleave

BACKENDS = ("torch", "jax", "tensorflow")
ANSWER = "ANSWER "


def options_of(args: argparse.Namespace, backend: str) -> Options:
    """What the arguments say of the case, for a table's rows of a backend."""
    return Options(
        args.size,
        args.batch_size,
        args.image_size or CASES[args.case][1],
        args.bf16,
        args.jit,
        compiled=not args.no_compile and backend == "torch",
        compiled_only=args.compiled_only,
        official=args.official,
    )


def of_keras(contender: str) -> bool:
    """Whether a contender runs on the backend of its row; the others run on torch."""
    return contender.startswith(("mimzoo", "KerasHub"))


def serve(args: argparse.Namespace) -> None:
    """One contender, in a process of its own: does what each line says that it reads."""
    import keras
    import torch
    import transformers  # noqa: F401

    if of_keras(args.contender):
        check_device()
    keras.utils.set_random_seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    if args.bf16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    case = CASES[args.case][0](options_of(args, args.backends[0]))
    memory = PeakMemory(of_torch=not of_keras(args.contender))
    case.prepare()
    gc.collect()
    memory.forget_peak()
    step = case.contenders[args.contender]()
    commands = {
        "first\n": lambda: first_step(step),
        "step\n": step,
        "kernels\n": lambda: kernel_seconds(step),
        "memory\n": lambda: memory.bytes() / 1e6,
        "peak\n": lambda: matrix_peak(args.bf16),
        "flops\n": case.flops,
    }
    print(ANSWER + "null", flush=True)
    for line in sys.stdin:
        print(ANSWER + json.dumps(commands[line]()), flush=True)


def first_step(step: Callable[[], None]) -> float:
    """Seconds of the first step. On a GPU three more follow; then ours on torch is a graph."""
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    for _ in range(3 if torch_device().type == "cuda" else 0):
        step()
    return seconds


class Process:
    """A contender's process, seen from outside."""

    def __init__(self, argv: list[str], backend: str, contender: str) -> None:
        command = [sys.executable, "-m", "benchmarks.train_step", *argv, "--contender", contender]
        env = child_environment(backend if of_keras(contender) else "torch")
        self.name, self.backend = contender, backend if of_keras(contender) else "torch"
        self.process = subprocess.Popen(
            [*command, "--backends", backend],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> float | None:
        """The next; raises if the process ended."""
        for line in self.process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise RuntimeError(f"{self.name} ended with exit status {self.process.wait()}")

    def send(self, command: str) -> None:
        """Has a command done."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command: str) -> float | None:
        """Has a command done, and waits for its answer."""
        self.send(command)
        return self.answer()


def first_steps(processes: list[Process]) -> dict[Process, float]:
    """Seconds of each contender's first step, all side by side; without those that failed."""
    started, seconds = [], {}
    for process in processes:
        with left_out():
            process.answer()
            process.send("first")
            started.append(process)
    for process in started:
        with left_out():
            seconds[process] = process.answer()
    return seconds


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Reports a contender that ended, of too little memory for example, and continues."""
    try:
        yield
    except (RuntimeError, BrokenPipeError) as error:
        print(f"left out: {error}", file=sys.stderr, flush=True)


class Row:
    """The contenders of a case, each in its process.

    Args:
        args: of the command line.
        argv: they as they were given.
        backends: those of ours and of other Keras models; the others run once.
    """

    def __init__(self, args: argparse.Namespace, argv: list[str], backends: Sequence[str]) -> None:
        self.args, self.processes = args, []
        for number, backend in enumerate(backends):
            for name in CASES[args.case][0](options_of(args, backend)).contenders:
                if of_keras(name) or not number:
                    self.processes.append(Process(argv, backend, name))

    def close(self) -> None:
        """Ends the processes."""
        for p in self.processes:
            p.process.kill()
            p.process.wait()

    def lines(self, first: dict["Process", float]) -> list[dict]:
        """Rows of the table.

        Args:
            first: seconds of the first step of each that took one.
        """
        args = self.args
        running = [p for p in self.processes if p in first]
        if not running:
            raise SystemExit(f"{args.case}: every contender failed.")
        steps = {p: functools.partial(p.ask, "step") for p in running}
        timings = interleave(steps, args.rounds, warmup=0, untimed=1)
        taken = {p: p.ask("memory") for p in running}
        kernels = {p: p.ask("kernels") for p in running}
        flops, peak = running[0].ask("flops"), max(p.ask("peak") for p in running)
        peers = [p for p in running if not p.name.startswith("mimzoo")]
        best = min((t.median for t in timings if t.name in peers), default=None)
        least = min((taken[p] for p in peers), default=None)
        return [
            {
                "case": args.row or f"{args.case} {args.size}{' bf16' if args.bf16 else ''}",
                "backend": t.name.backend,
                "contender": t.name.name,
                "ratio to best peer": best and round(best / t.median, 3),
                "spread": round(t.spread, 3),
                "images/s": round(args.batch_size / t.median, 2),
                "ms": round(1e3 * t.median, 1),
                "kernels, ms": kernels[t.name] and round(1e3 * kernels[t.name], 1),
                "first step, s": round(first[t.name], 1),
                "GFLOP/s": round(flops / t.median / 1e9, 1),
                "of peak": round(flops / t.median / peak, 3),
                "MB": round(taken[t.name]),
                "memory ratio": least and round(taken[t.name] / least, 3),
            }
            for t in timings
        ]


def measure(
    rows: Sequence[tuple[argparse.Namespace, list[str], Sequence[str]]],
) -> Iterator[list[dict]]:
    """The lines of each of several cases: all take their first steps side by side."""
    started: list[Row] = []
    try:
        started.extend(Row(*row) for row in rows)
        first = first_steps([p for row in started for p in row.processes])
        for row in started:
            yield row.lines(first)
            row.close()
    finally:
        for row in started:
            row.close()


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of a row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=tuple(CASES), default="mae")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, help="default: that of the method's paper")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--bf16", action="store_true", help="mixed precision, both sides")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--compiled-only", action="store_true", help="peers as fast as they get")
    parser.add_argument("--jit", action="store_true", help="compile ours on torch, too")
    parser.add_argument("--official", help="folder of MixMIM's official code, for its case")
    parser.add_argument("--csv", type=Path, help="add the rows to this table")
    parser.add_argument("--row", help="name of the rows in the table, default: case and size")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measures each backend in a process of its own and prints one table."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    if args.contender:
        serve(args)
        return
    each = ([(args, argv, [backend])] for backend in args.backends)
    rows = [line for row in each for lines in measure(row) for line in lines]
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
