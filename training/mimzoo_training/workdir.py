"""The folder of a run: what lies in it, and how a run finds its way back into it."""

import contextlib
import functools
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mimzoo.data import Source
from mimzoo.data.ids import printable
from mimzoo.data.opening import folder_of
from mimzoo.hub.manifest import MANIFEST, ManifestError, check_manifest, is_read
from mimzoo_training.files import LOCK, UNFINISHED, RunError, locked, read_json, remove, write_json
from mimzoo_training.output import steady
from mimzoo_training.recipes.legacy import upgraded

# Fields of recipe.json that no number depends on, or that say how a run came about.
REMARKS = {"origin", "inferred", "extended", "root"}
# Those that runs of earlier versions did not record.
RECENT = {"fingerprint", "classes", "start_weights", "validation_fingerprint"}
# Those that differ where only the length does.
LENGTH = {"length", "name", "warmup"}
# Without these a preset is not whole.
PRESET = ("config.json", "task.json", "model.weights.h5", "recipe.json", "results.json")
PRESET += ("curve.csv", "README.md")


class Workdir:
    """A run's folder.

    It holds `recipe.json` (the recipe and what it runs on), `log.csv` and `log.jsonl`,
    TensorBoard events, `checkpoints/`, `curve.png`, `reconstruction_<epoch>.png` and, at the end,
    `preset/` and `results.json`, which is written last.

    Args:
        path: made if it does not exist.

    Raises:
        RunError: the folder cannot be written to, or holds files that no run has left.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).expanduser()
        if printable(str(self.path)) != str(self.path):
            raise RunError(
                f"TensorBoard cannot write to {printable(str(self.path))}: choose a --workdir "
                "whose name is UTF-8, without control characters."
            )
        self.checkpoints = self.path / "checkpoints"
        self.preset = self.path / "preset"
        self.recipe = self.path / "recipe.json"
        self.results = self.path / "results.json"
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_foreign()
            self.checkpoints.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write to the work directory {self.path}: {error.strerror or error}; "
                "choose another --workdir or make room."
            ) from error

    def _refuse_foreign(self) -> None:
        if self.recipe.exists():
            return
        ours = {self.checkpoints, self.path / LOCK, *self._unfinished()}
        strange = sorted(set(self.path.iterdir()) - ours)
        if strange:
            raise RunError(
                f"{self.path} is not empty (it holds {strange[0].name}) and was begun by no run: "
                "choose an empty or new --workdir."
            )

    def _unfinished(self) -> list[Path]:
        """What a killed process was writing."""
        folders = (self.path, self.checkpoints)
        return [path for folder in folders for name in UNFINISHED for path in folder.glob(name)]

    @property
    def finished(self) -> bool:
        """Whether the run is complete: its results are there, and its preset is whole.

        Without checkpoints to make a preset of, the results are enough: a linear probe leaves
        nothing else, and a study removes what it needs no more.
        """
        if not _is_list(self.results):
            return False
        return not self.lacking() or not any(self.checkpoints.glob("step_*"))

    def lacking(self) -> str:
        """What of the preset is missing or damaged, such as "README.md"; "" if it is whole."""
        for name in PRESET:
            if not (self.preset / name).is_file():
                return name
        try:
            read_json(self.preset / "recipe.json", "recipe", "run")
            if (self.preset / MANIFEST).is_file():
                check_manifest(self.preset, is_read)
        except RunError:
            return "recipe.json"
        except ManifestError as error:
            return error.file
        except ValueError:
            return MANIFEST
        return "" if _is_list(self.preset / "results.json") else "results.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from running in the folder; the lock goes with the process.

        Raises:
            RunError: another run is at work here, or nothing can be written.
        """
        with contextlib.ExitStack() as stack:
            with self._writable():
                stack.enter_context(locked(self.path))
                self._tidy()
            yield

    def _tidy(self) -> None:
        for path in self._unfinished():
            remove(path)
        with tempfile.NamedTemporaryFile(dir=self.checkpoints, prefix=".probe-") as probe:
            probe.write(b"mimzoo" * 1024)
            probe.flush()
            os.fsync(probe.fileno())

    def require_space(self, needed: int) -> None:
        """Raises RunError if fewer than `needed` bytes are free."""
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise RunError(
                f"the disk of {self.path} has {free / 1e6:.0f} MB left, this run needs about "
                f"{needed / 1e6:.0f} MB more for checkpoints and the preset: make room, or choose "
                "another --workdir."
            )

    def claim(self, recipe: dict, run: dict, say: Callable[[str], None] = print) -> None:
        """Records the recipe, or checks that it is the one that the folder was begun with.

        A greater length is taken: the run continues with the schedule of that length, also if it
        was finished, and `extended` says so in `run` and in recipe.json.

        Args:
            recipe: as JSON.
            run: what else the numbers depend on: data, backend, precision.
            say: gets a line if the length is another one.

        Raises:
            RunError: the folder belongs to another run; the differing fields are named.
        """
        # What JSON makes of it, so that it compares with what was read.
        wanted = json.loads(json.dumps({"recipe": recipe, "run": run}))
        if not self.recipe.exists():
            write_json(self.recipe, wanted)
            return
        found = read_json(self.recipe, "recipe", "run", mend="choose an empty --workdir")
        old, new = (_fields(stored) for stored in (found, wanted))
        names = {*old, *new} - REMARKS - (RECENT - set(old))
        differing = sorted(k for k in names if old.get(k) != new.get(k))
        if "extended" in found["run"]:
            run["extended"] = found["run"]["extended"]
        if differing and set(differing) <= LENGTH and _steps(new) > _steps(old):
            self._extend(wanted, run, old["length"], new["length"], say)
        elif differing:
            # Digests only where nothing that a person can read differs.
            shown = [k for k in differing if "fingerprint" not in k] or differing
            listed = ", ".join(f"{k} (was {old.get(k)!r}, is {new.get(k)!r})" for k in shown)
            raise RunError(
                f"{self.path} was begun with another recipe; these differ: {listed}. "
                "Give the same arguments to resume, or another --workdir."
            )

    def check_outside(self, *sources: Source | None) -> None:
        """Raises RunError where the folder lies inside of the folder of one of the sources."""
        for source in sources:
            images = None if source is None else folder_of(source)
            if images is not None and self.path.resolve().is_relative_to(images):
                raise RunError(
                    f"the work directory {self.path} lies inside {images}, so its pictures would "
                    "become images: choose a --workdir outside."
                )

    def _extend(
        self, wanted: dict, run: dict, old: str, new: str, say: Callable[[str], None]
    ) -> None:
        latest = max((p.stem for p in self.checkpoints.glob("step_*.safetensors")), default="_0")
        step = int(latest.partition("_")[2])
        run["extended"] = [*run.get("extended", ()), {"step": step, "from": old, "to": new}]
        self.results.unlink(missing_ok=True)
        write_json(self.recipe, {**wanted, "run": {**wanted["run"], "extended": run["extended"]}})
        say(
            f"the length is {new} instead of {old} from step {step} on: the learning rate follows "
            "the longer schedule from there, so the result is not that of one run of this length."
        )


def _is_list(path: Path) -> bool:
    try:
        return isinstance(read_json(path), list)
    except (OSError, RunError):
        return False


def _fields(stored: dict) -> dict:
    """What a run depends on, its task's arguments one by one: "task.masking.mask_ratio"."""
    fields = {**upgraded(stored["recipe"]), **stored["run"]}
    return fields | _flat("task", fields.pop("task", {}))


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(name if key == "config" else f"{name}.{key}", one)
    return found


def _steps(fields: dict) -> int:
    from mimzoo import run_length

    return run_length.steps(fields["length"], fields["batch_size"], fields["num_examples"])


def alone_in_workdir(run: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function with `workdir` and `devices`: nobody else works in that folder.

    The folder is locked by the one process that writes, until the last file is there. A reader of
    the output that goes away does not end the run.
    """
    signature = inspect.signature(run)

    @functools.wraps(run)
    def alone(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        devices = given.get("devices")
        place = Workdir(given["workdir"])
        mine = place.locked() if devices is None or devices.is_main else contextlib.nullcontext()
        with steady(), mine:
            return run(*args, **kwargs)

    return alone
