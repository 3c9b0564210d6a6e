"""One run on one device, on several and in several processes: how far do the losses differ?

    python -m benchmarks.distribution --backend jax --method mae --layouts 2x1 4x1 2x2 4x1m2

A small model on noise, with drop path; the last batch of an evaluation is not whole. A layout is
devices of a process x processes, and m: over how many devices the model is split. CPU devices are
virtual; processes talk over the loopback network. Printed are the greatest relative differences
of the losses from those of one device, and whether all processes end with the same weights.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

WORKER = Path(__file__).parent / "distributed_run.py"


class Result(NamedTuple):
    """Losses of each epoch, validation losses, weights of each process."""

    losses: np.ndarray
    validation: np.ndarray
    weights: list[list[np.ndarray]]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(backend: str, devices: int, processes: int, number: int, ports: list[int]) -> dict:
    """The variables of one process of a job."""
    env = {**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    flags = os.environ.get("XLA_FLAGS", "")
    env["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
    if processes == 1:
        return env
    if backend == "tensorflow":
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": number}
        return {**env, "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    env |= {"MIMZOO_PROCESSES": str(processes), "MIMZOO_PROCESS": str(number)}
    return {**env, "MIMZOO_ADDRESS": f"127.0.0.1:{ports[0]}"}


def start(
    backend: str,
    method: str,
    steps: int,
    workdir: Path,
    devices: int = 1,
    processes: int = 1,
    model_parallel: int = 1,
) -> list[subprocess.Popen]:
    """The processes of a run."""
    ports = [free_port() for _ in range(processes)]
    command = [sys.executable, WORKER, method, steps, workdir, devices, model_parallel]
    return [
        subprocess.Popen(
            [str(part) for part in command],
            env=environment(backend, devices, processes, number, ports),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]


def layout_of(text: str) -> dict[str, int]:
    """`2x1m2` as options of `start`."""
    devices, processes, split = re.fullmatch(r"(\d+)x(\d+)(?:m(\d+))?", text).groups()
    sizes = {"devices": devices, "processes": processes, "model_parallel": split or 1}
    return {name: int(size) for name, size in sizes.items()}


def run(backend: str, method: str, steps: int, workdir: Path, **layout: int) -> Result:
    """As `start`, and waits for the end.

    Raises:
        RuntimeError: a process failed; with what it printed.
    """
    running = start(backend, method, steps, workdir, **layout)
    for process in running:
        told, _ = process.communicate(timeout=900)
        if process.returncode:
            for other in running:
                other.kill()
            raise RuntimeError(told[-4000:])
    return read(workdir, len(running))


def wait_for(true: Callable[[], bool], running: list[subprocess.Popen]) -> None:
    """Until something is so.

    Raises:
        RuntimeError: a process ended first, or two minutes have passed.
    """
    for _ in range(1200):
        if true():
            return
        for process in running:
            if process.poll() is not None:
                raise RuntimeError(process.communicate()[0][-4000:])
        time.sleep(0.1)
    raise RuntimeError("waited for two minutes")


def read(workdir: Path, processes: int = 1) -> Result:
    """What a finished run left."""
    rows = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    weights = [
        list(np.load(workdir / f"process_{number}.npz").values()) for number in range(processes)
    ]
    validation = [row["val_loss"] for row in rows if row["val_loss"] is not None]
    return Result(np.array([row["loss"] for row in rows]), np.array(validation), weights)


def differences(one: Result, many: Result) -> tuple[float, float, bool]:
    """Relative differences of losses and validation losses; whether processes agree."""
    same = all(
        np.array_equal(a, b)
        for other in many.weights[1:]
        for a, b in zip(many.weights[0], other, strict=True)
    )
    pairs = ((one.losses, many.losses), (one.validation, many.validation))
    loss, validation = (float(np.max(np.abs(b / a - 1))) for a, b in pairs)
    return loss, validation, same


def main(argv: list[str] | None = None) -> None:
    """Runs the layouts and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", required=True, choices=("jax", "torch", "tensorflow"))
    parser.add_argument("--method", default="mae", choices=("mae", "simmim", "mixmim"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--layouts", nargs="+", default=["1x2"])
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        one = run(args.backend, args.method, args.steps, Path(folder) / "one")
        for layout in args.layouts:
            many = run(
                args.backend, args.method, args.steps, Path(folder) / layout, **layout_of(layout)
            )
            loss, validation, same = differences(one, many)
            print(
                f"{args.backend:10s} {args.method:6s} {layout:6s} {len(one.losses)} epochs of a "
                f"step: loss {loss:.1e}, validation {validation:.1e}, "
                f"{'the same weights everywhere' if same else 'WEIGHTS DIFFER'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
