"""Ends runs at random moments, resumes them each time, and compares the end with a whole run.

    python -m benchmarks.resume --backends torch jax --kills 15
    python -m benchmarks.resume --backends jax --kills 6 --layouts 1x1 4x1 2x2

Commands `mimzoo pretrain` and `mimzoo finetune` get SIGKILL or SIGTERM while they train, while a
checkpoint is written (which happens as often as it can), or while the preset is written: with
15 kills that is ten of each command, and ten of the export. The weights of checkpoint and preset
have to be those of the whole run, bit for bit, and so the preset's files that hold no time, and
the names of all files; the losses of the log may differ by the rounding of an epoch's mean.

With --layouts all processes of a job are killed while they train, and each start has another
layout (as in `benchmarks.distribution`): weights (as one vector) and losses of all epochs have to
be within 1e-5, relative.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from benchmarks import distribution as runs

TOLERANCE = 1e-5
MOMENTS = ("training", "saving", "export")
# Files without a time or a date in them.
SAME_BYTES = tuple(
    f"preset/{name}"
    for name in (
        "config.json",
        "task.json",
        "preprocessor.json",
        "image_converter.json",
        "model.weights.h5",
        "task.weights.h5",
        "recipe.json",
    )
)
PRESET = "vit_nano_mae_fmnist_20ep"
Start = Callable[[int], list[subprocess.Popen]]


def ended(
    start: Start,
    folder: Path,
    steps: int,
    moments: list[str],
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,),
    seed: int = 0,
) -> Counter:
    """Runs to the end; ends the run once at each of the moments.

    Args:
        start: starts the processes of a run, or resumes it; gets the number of the start.
        folder: work directory.
        steps: of the run.
        moments: of `MOMENTS`, in order.
        signals: of which one is drawn each time.
        seed: of the draws.

    Returns:
        (moment, signal) -> how often; (moment, "missed") if the run was quicker.
    """
    draw = random.Random(seed)
    done: Counter = Counter()
    for number, moment in enumerate(moments):
        running = start(number)
        before = newest(folder)
        share = (steps - before) // (len(moments) - number + 1)
        target = steps if moment == "export" else before + draw.randint(1, max(1, share))
        if not reached(running, folder, moment, target):
            done[moment, "missed"] += 1
            continue
        time.sleep(draw.random() * 0.2)
        chosen = draw.choice(signals)
        for process in running:
            process.send_signal(chosen)
        for process in running:
            process.communicate()
        done[moment, chosen.name] += 1
    for process in start(len(moments)):
        printed, _ = process.communicate(timeout=900)
        if process.returncode:
            raise RuntimeError(printed[-4000:])
    return done


def newest(folder: Path) -> int:
    """Step of the newest checkpoint; 0 if there is none."""
    return max((int(p.stem[5:]) for p in folder.glob("checkpoints/step_*")), default=0)


def reached(running: list[subprocess.Popen], folder: Path, moment: str, target: int) -> bool:
    """Waits for a moment at or after step `target`; False if the run ended before.

    Raises:
        RuntimeError: the run failed.
    """
    sign = {"saving": "checkpoints/.tmp*", "export": ".writing-preset"}.get(moment)
    while any(process.poll() is None for process in running):
        if newest(folder) >= target and (sign is None or any(folder.glob(sign))):
            return True
        time.sleep(0.001)
    for process in running:
        if process.returncode:
            raise RuntimeError(process.communicate()[0][-4000:])
    return False


def differences(one: Path, other: Path) -> list[str]:
    """What differs between the work directories of two finished runs."""
    found = [f"only one has {name}" for name in sorted(names(one) ^ names(other))]
    for name in sorted(names(one) & names(other)):
        if name in SAME_BYTES and (one / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    for name, value in weights(one).items():
        if not np.array_equal(value, weights(other).get(name)):
            found.append(name)
    for a, b in zip(log(one), log(other), strict=True):
        found += [f"{k}: {a[k]} and {b[k]}" for k in ("step", "epoch", "lr") if a[k] != b[k]]
        for name in ("loss", "val_loss"):
            if a[name] and abs(float(a[name]) - float(b[name])) > TOLERANCE * float(a[name]):
                found.append(f"{name} of step {a['step']}: {a[name]} and {b[name]}")
    return found


def names(folder: Path) -> set[str]:
    """All files, but for TensorBoard's, of which there is one for each start."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return {name for name in found if not name.startswith("events.")}


def weights(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of the last checkpoint and of the preset."""
    last = max(folder.glob("checkpoints/step_*"))
    found = {f"checkpoint {name}": value for name, value in load_file(last).items()}
    for path in folder.glob("preset/*.h5"):
        with h5py.File(path) as file:
            for name, value in datasets(file):
                found[f"{path.name} {name}"] = value
    return found


def datasets(group: h5py.Group) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of all that a group holds."""
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from datasets(item)
        else:
            yield item.name, item[()]


def log(folder: Path) -> list[dict[str, str]]:
    """The rows of the log."""
    with open(folder / "log.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def photos(folder: Path, count: int = 36) -> Path:
    """A folder of noise in two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28, 3), "uint8")).save(path)
    return folder


def command(kind: str, backend: str, data: Path, workdir: Path, steps: int) -> Start:
    """Starts `mimzoo pretrain` or `mimzoo finetune`, or resumes it."""
    arguments = [sys.executable, "-m", "mimzoo_training.cli", kind, PRESET]
    arguments += ["--data", data, "--workdir", workdir, "--length", f"{steps}it"]
    arguments += ["--batch-size", 8, "--checkpoint-seconds", 0]

    def start(number: int) -> list[subprocess.Popen]:
        process = subprocess.Popen(
            [str(part) for part in arguments],
            env={**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return [process]

    return start


def compare(kind: str, backend: str, steps: int, moments: list[str], seed: int = 0) -> bool:
    """A command that is ended at each of the moments against a whole run; prints a row of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = photos(folder / "photos")
        whole, parts = folder / "whole", folder / "parts"
        ended(command(kind, backend, data, whole, steps), whole, steps, [])
        both = (signal.SIGKILL, signal.SIGTERM)
        start = command(kind, backend, data, parts, steps)
        done = ended(start, parts, steps, moments, both, seed)
        found = differences(whole, parts)
    cells = [sum(n for (m, s), n in done.items() if m == moment) for moment in MOMENTS]
    cells += [sum(n for (_, s), n in done.items() if s == name) for name in ("SIGKILL", "SIGTERM")]
    cells += [sum(n for (_, s), n in done.items() if s == "missed")]
    print(ROW.format(kind, backend, *cells, found[0] if found else "the same"), flush=True)
    return not found


ROW = "{:10s} {:10s} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  {}"


def main(argv: list[str] | None = None) -> None:
    """Prints a table, or a line of what came out on several layouts; exit code 1: not the same."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backends", nargs="+", default=["torch", "jax"])
    parser.add_argument("--commands", nargs="+", default=["pretrain", "finetune"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--kills", type=int, default=15, help="of each command on each backend")
    parser.add_argument("--layouts", nargs="+")
    parser.add_argument("--method", default="mae", choices=("mae", "simmim", "mixmim"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.layouts:
        same = [on_layouts(backend, args) for backend in args.backends]
        raise SystemExit(not all(same))
    # The preset is written last.
    moments = sorted((MOMENTS[n % 3] for n in range(args.kills)), key="export".__eq__)
    heads = (*MOMENTS, "SIGKILL", "SIGTERM", "missed", "end")
    print(ROW.format("command", "backend", *heads))
    cases = [(kind, backend) for backend in args.backends for kind in args.commands]
    same = [compare(*case, args.steps, moments, args.seed) for case in cases]
    raise SystemExit(not all(same))


def on_layouts(backend: str, args: argparse.Namespace) -> bool:
    """The same job, each start on the next layout, against one whole run on the first."""
    layouts = [runs.layout_of(text) for text in args.layouts]
    os.environ |= {"IMAGES": "84", "CHECKPOINT_SECONDS": "0"}
    job = {"backend": backend, "method": args.method, "steps": args.steps}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = runs.run(**job, workdir=folder / "whole", **layouts[0])
        parts = folder / "parts"

        def start(number: int) -> list[subprocess.Popen]:
            return runs.start(**job, workdir=parts, **layouts[number % len(layouts)])

        moments = [MOMENTS[n % 2] for n in range(args.kills)]
        done = ended(start, parts, args.steps, moments, seed=args.seed)
        result = runs.read(parts)
    one, other = (
        np.concatenate([w.ravel().astype("float64") for w in found.weights[0]])
        for found in (whole, result)
    )
    difference = np.linalg.norm(one - other) / np.linalg.norm(one)
    curve = np.max(np.abs(result.losses / whole.losses - 1))
    print(
        f"{backend} {args.method} on {' '.join(args.layouts)}: {dict(done)}; weights differ by "
        f"{difference:.1e}, losses of epochs by {curve:.1e}"
    )
    return difference == 0 if len(layouts) == 1 else max(difference, curve) < TOLERANCE


if __name__ == "__main__":
    main()
