"""A whole grid published, with a kill in the middle, and read back by name on every backend.

    python -m benchmarks.publish_grid

writes a small checkpoint in the official layout for every released file of a grid, publishes all
on a Hub on this machine (`tests/hub_server.py`), kills the publisher with SIGKILL after a quarter
of the commits, starts it again, and then loads every preset by its name: one process a
backend, each with empty caches. It fails if a large file was sent twice, if a preset is missing,
untagged or not in the collection, if a backend's features differ from those of the checkpoint on
torch by more than 1e-4 of their std, or if the token shows up in what was printed.
"""

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4


def main() -> None:
    """Runs the benchmark, or one reading process of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", default="simmim_data_scaling", help="of Swin V2")
    parser.add_argument("--pretrained-only", action="store_true", help="without the classifiers")
    parser.add_argument("--backends", nargs="+", default=["torch", "jax", "tensorflow"])
    parser.add_argument("--read", metavar="NPZ", help=argparse.SUPPRESS)
    parser.add_argument("--checkpoints", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read(arguments.names, arguments.read, arguments.checkpoints)
        return
    with tempfile.TemporaryDirectory(prefix="publish-grid-") as folder:
        run(arguments, Path(folder))


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """The whole of it, in a temporary folder."""
    sys.path.insert(0, str(ROOT / "tests"))
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from hub_server import HubServer
    from released import Released

    from mimzoo.hub import list_presets, preset_info

    begun = time.monotonic()
    names = [n for n in list_presets(grid=arguments.grid) if preset_info(n).checkpoint]
    if arguments.pretrained_only:
        names = [name for name in names if preset_info(name).task == "pretraining"]
    official = Released(folder / "official")
    for seed, name in enumerate(names):
        official.write(preset_info(name), seed)
    size = sum(path.stat().st_size for path in official.folder.iterdir())
    print(f"{len(names)} checkpoints, {size / 1e6:.1f} MB: {time.monotonic() - begun:.0f} s")

    what = names if arguments.pretrained_only else ["--grid", arguments.grid]
    command = [sys.executable, "-m", "mimzoo_training.cli", "publish", *what, "--org", "mimzoo"]
    command += ["--checkpoints", str(official.folder)]
    with HubServer() as hub:
        environment = surroundings(hub, folder / "publisher")
        begun = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while hub.count("POST .*/commit/") < len(names) // 4:
            if process.poll() is not None:
                raise SystemExit("the publisher ended before it was killed")
            time.sleep(0.05)
        process.kill()
        process.wait()
        print(f"killed after {hub.count('POST .*/commit/')} commits: {since(begun)}")
        for what_for in ("what was left", "nothing was left"):
            begun, commits, asked = time.monotonic(), hub.count("POST .*/commit/"), hub.count()
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            if "hf_test" in done.stdout + done.stderr:
                raise SystemExit("the token was printed")
            counts = done.stdout.strip().splitlines()[-1]
            new = hub.count("POST .*/commit/") - commits
            print(
                f"{what_for}: {since(begun)}, {counts}; {new} commits, "
                f"{hub.count() - asked} requests"
            )
        check_hub(hub, names)
        compare(arguments.backends, names, hub, folder, official.folder)


def surroundings(hub: object, home: Path) -> dict[str, str]:
    """Environment variables of a process with empty caches that knows this Hub only."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "training"), os.environ.get("PYTHONPATH", "")])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    return own | quiet | hub.environment(home)


def since(begun: float) -> str:
    """Seconds, for people."""
    return f"{time.monotonic() - begun:.0f} s"


def check_hub(hub: object, names: list[str]) -> None:
    """What the log and the store of the Hub have to show."""
    sent = collections.Counter(entry.path for entry in hub.requests("^PUT /_lfs/"))
    twice = [path for path, times in sent.items() if times > 1]
    repositories = hub.repositories
    untagged = [n for n in names if len(repositories[f"mimzoo/{n}"].tags) != 1]
    (collection,) = hub.collections.values()
    listed = [item["id"] for item in collection["items"]]
    if twice or untagged or sorted(listed) != sorted(f"mimzoo/{name}" for name in names):
        raise SystemExit(f"sent twice: {twice}; untagged: {untagged}; listed: {len(listed)}")
    print(f"{len(sent)} large files, each sent once; {len(listed)} presets tagged and listed")


def compare(
    backends: list[str], names: list[str], hub: object, folder: Path, official: Path
) -> None:
    """Reads all presets by name on each backend, and compares them with the checkpoints."""
    wanted = None
    for backend in backends:
        begun = time.monotonic()
        found = folder / f"{backend}.npz"
        command = [sys.executable, "-m", "benchmarks.publish_grid", "--read", str(found), *names]
        if wanted is None:
            command += ["--checkpoints", str(official)]
        environment = surroundings(hub, folder / backend) | {"KERAS_BACKEND": backend}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        figures = dict(np.load(found))
        if wanted is None:
            wanted = {k.removeprefix("official/"): v for k, v in figures.items() if "/" in k}
        worst = max(np.abs(figures[n] - wanted[n]).max() / wanted[n].std() for n in names)
        print(
            f"{backend}: {len(names)} read by name: {since(begun)}, "
            f"greatest difference {worst:.1e} of the std"
        )
        if worst > TOLERANCE:
            raise SystemExit(f"{backend} gives other features")


def read(names: list[str], out: str, checkpoints: str | None) -> None:
    """Features of presets by name, and if there are checkpoints of what these hold."""
    import keras
    from mimzoo_training.publish.fingerprint import noise

    from mimzoo.convert.importing import load
    from mimzoo.hub import preset_info
    from mimzoo.models import Backbone

    found = {}
    for name in names:
        keras.utils.clear_session()
        model = Backbone.from_preset(name)
        images = noise(2, model.image_shape)
        found[name] = keras.ops.convert_to_numpy(model(images))
        if checkpoints:
            path = Path(checkpoints) / preset_info(name).checkpoint.file
            _, official, _ = load([path], None, {})
            found[f"official/{name}"] = keras.ops.convert_to_numpy(official.backbone(images))
    np.savez(out, **found)


if __name__ == "__main__":
    main()
