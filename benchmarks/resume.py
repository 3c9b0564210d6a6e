"""Kills a run at random moments, lets it go on each time, and compares the end with a whole run.

    python -m benchmarks.resume --backend torch --kills 20 --steps 200

The process is killed by SIGKILL, while it trains or while it writes a checkpoint (which it does
as often as it can). Final weights have to be the same, bit for bit.
"""

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import distribution as runs


def killed(backend: str, method: str, steps: int, folder: Path, kills: int, seed: int) -> dict:
    """Runs to the end through `kills` kills.

    Returns:
        "kills", of which "while writing" a checkpoint, and "steps" that the run had done at each.
    """
    os.environ["CHECKPOINT_SECONDS"] = "0"
    draw = random.Random(seed)
    done: dict = {"kills": 0, "while writing": 0, "steps": []}
    # The starts take most of the time, so a kill comes soon after the first new checkpoint.
    while done["kills"] < kills:
        before = newest(folder)
        (process,) = runs.start(backend, method, steps, folder)
        target = before + draw.randint(1, max(1, (steps - before) // (kills - done["kills"] + 1)))
        in_writing = draw.random() < 0.5
        ended = watch(process, folder, target, in_writing)
        if ended:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        done["kills"] += 1
        done["while writing"] += bool(list(folder.glob("checkpoints/.writing-*")))
        done["steps"].append(newest(folder))
    runs.run(backend, method, steps, folder)
    return done


def newest(folder: Path) -> int:
    """Step of the newest checkpoint; 0 if there is none."""
    return max((int(p.stem[5:]) for p in folder.glob("checkpoints/step_*")), default=0)


def watch(process: subprocess.Popen, folder: Path, target: int, in_writing: bool) -> bool:
    """Waits until a run is `target` steps far, perhaps just then writing; True if it ended."""
    while process.poll() is None:
        if newest(folder) >= target:
            deadline = time.monotonic() + 2
            while in_writing and time.monotonic() < deadline and process.poll() is None:
                if any(folder.glob("checkpoints/.writing-*")):
                    return False
            return process.poll() is not None
        time.sleep(0.002)
    told = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(told[-4000:])
    return True


def main(argv: list[str] | None = None) -> None:
    """Runs both and prints what came out; the exit code is 1 if weights differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", required=True, choices=("jax", "torch", "tensorflow"))
    parser.add_argument("--method", default="mae", choices=("mae", "simmim", "mixmim"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = runs.run(args.backend, args.method, args.steps, folder / "whole")
        done = killed(
            args.backend, args.method, args.steps, folder / "killed", args.kills, args.seed
        )
        again = runs.read(folder / "killed")
        same = all(map(np.array_equal, whole.weights[0], again.weights[0]))
        curve = np.array_equal(whole.losses, again.losses)
        print(
            f"{args.backend}: {done['kills']} kills, {done['while writing']} of them while a "
            f"checkpoint was written, at steps {done['steps']}: final weights "
            f"{'identical' if same else 'DIFFER'}, losses of all epochs "
            f"{'identical' if curve else 'differ'}"
        )
        raise SystemExit(not same)


if __name__ == "__main__":
    main()
