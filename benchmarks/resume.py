"""Kills a run at random moments, lets it go on each time, and compares the end with a whole run.

    python -m benchmarks.resume --backend torch --kills 20 --steps 200
    python -m benchmarks.resume --backend jax --kills 6 --layouts 1x1 4x1 2x2

All processes are killed by SIGKILL, while they train or while one writes a checkpoint (which it
does as often as it can); epochs have five steps, so most kills fall inside one. Final weights have
to be the same, bit for bit; where each start has another layout (as in `benchmarks.distribution`),
weights (as one vector) and losses of all epochs have to be within 1e-5, relative.
"""

import argparse
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import distribution as runs

TOLERANCE = 1e-5


def killed(start: dict, layouts: list[dict], kills: int, seed: int) -> dict:
    """Runs to the end through `kills` kills, each start on the next of `layouts`.

    Returns:
        "kills", of which "while writing" a checkpoint, and "steps" that the run had done at each.
    """
    folder, steps = start["workdir"], start["steps"]
    draw = random.Random(seed)
    done: dict = {"kills": 0, "while writing": 0, "steps": []}
    # The starts take most of the time, so a kill comes soon after the first new checkpoint.
    while done["kills"] < kills:
        before = newest(folder)
        running = runs.start(**start, **layouts[done["kills"] % len(layouts)])
        target = before + draw.randint(1, max(1, (steps - before) // (kills - done["kills"] + 1)))
        if watch(running, folder, target, in_writing=draw.random() < 0.5):
            break
        for process in running:
            process.kill()
        for process in running:
            process.communicate()
        done["kills"] += 1
        done["while writing"] += bool(list(folder.glob("checkpoints/.writing-*")))
        done["steps"].append(newest(folder))
    done["result"] = runs.run(**start, **layouts[done["kills"] % len(layouts)])
    return done


def newest(folder: Path) -> int:
    """Step of the newest checkpoint; 0 if there is none."""
    return max((int(p.stem[5:]) for p in folder.glob("checkpoints/step_*")), default=0)


def watch(running: list[subprocess.Popen], folder: Path, target: int, *, in_writing: bool) -> bool:
    """Waits until a run is `target` steps far, perhaps just then writing; True if it ended."""

    def ended() -> bool:
        return all(process.poll() is not None for process in running)

    while not ended():
        if any(process.poll() for process in running):
            break
        if newest(folder) >= target:
            deadline = time.monotonic() + 2
            while in_writing and time.monotonic() < deadline and not ended():
                if any(folder.glob("checkpoints/.writing-*")):
                    return False
            return ended()
        time.sleep(0.002)
    for process in running:
        if process.poll():
            raise RuntimeError(process.communicate()[0][-4000:])
    return True


def main(argv: list[str] | None = None) -> None:
    """Runs both and prints what came out; the exit code is 1 if weights differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", required=True, choices=("jax", "torch", "tensorflow"))
    parser.add_argument("--method", default="mae", choices=("mae", "simmim", "mixmim"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--layouts", nargs="+", default=["1x1"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    layouts = [runs.layout_of(text) for text in args.layouts]
    os.environ |= {"IMAGES": "84", "CHECKPOINT_SECONDS": "0"}
    start = {"backend": args.backend, "method": args.method, "steps": args.steps}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = runs.run(**start, workdir=folder / "whole", **layouts[0])
        done = killed({**start, "workdir": folder / "killed"}, layouts, args.kills, args.seed)
    one, other = (
        np.concatenate([w.ravel().astype("float64") for w in result.weights[0]])
        for result in (whole, done["result"])
    )
    difference = np.linalg.norm(one - other) / np.linalg.norm(one)
    curve = np.max(np.abs(done["result"].losses / whole.losses - 1))
    same = difference == 0 if len(layouts) == 1 else max(difference, curve) < TOLERANCE
    print(
        f"{args.backend} {args.method} on {' '.join(args.layouts)}: {done['kills']} kills, "
        f"{done['while writing']} of them while a checkpoint was written, after steps "
        f"{done['steps']}; weights differ by {difference:.1e}, losses of epochs by {curve:.1e}"
    )
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
