"""The state of a run in one safetensors file: tensors, and a little JSON. No pickle."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimzoo_training.workdir import RunError, write_file

KEEP = 2
BEST = "best.safetensors"


def own(model: keras.Model, variables: list[Any]) -> list[Any]:
    """Those of the model's variables that its files hold: a teacher's are in files of its own."""
    frozen = {id(v) for v in getattr(model, "frozen_variables", ())}
    return [v for v in variables if id(v) not in frozen]


def variables(model: keras.Model) -> dict[str, Any]:
    """Name -> variable of all that a step changes: weights, random states, optimizer."""
    groups = {"model": own(model, model.variables), "optimizer": model.optimizer.variables}
    # By number: paths repeat, and Keras counts up the name of each new optimizer in a process.
    return {
        f"{group}/{number:04d}": variable
        for group, members in groups.items()
        for number, variable in enumerate(members)
    }


def size(model: keras.Model) -> int:
    """Bytes of one checkpoint, about."""
    return sum(4 * int(np.prod(v.shape)) for v in variables(model).values()) + 100_000


def room(model: keras.Model) -> int:
    """Bytes a run needs at most: the last checkpoints, the best, one being written, the preset."""
    return (KEEP + 3) * size(model)


def tensors(model: keras.Model, whole: Callable[[Any], np.ndarray]) -> dict[str, np.ndarray]:
    """Name -> array of all variables.

    Args:
        model: compiled, its optimizer built.
        whole: makes an array of a variable's value, wherever its parts lie.
    """
    return {name: whole(variable.value) for name, variable in variables(model).items()}


def save(folder: Path, tensors: dict[str, np.ndarray], state: dict, best: bool = False) -> Path:
    """Writes `step_<step>.safetensors` and removes all but the last two.

    Args:
        folder: of the checkpoints.
        tensors: see the function of that name.
        state: JSON that goes with it; has "step".
        best: call it `best.safetensors`, too, and forget the one that was.

    Raises:
        RunError: the file cannot be written; older ones are left as they are.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    def write(path: Path) -> None:
        try:
            save_file(tensors, path, metadata={"mimzoo": json.dumps(state)})
        except SafetensorError as error:  # its form of a full disk
            raise OSError(str(error)) from error

    path = folder / f"step_{state['step']:09d}.safetensors"
    write_file(path, write)
    if best:
        write_file(folder / BEST, lambda temporary: _second_name(path, temporary))
    for old in sorted(folder.glob("step_*.safetensors"))[:-KEEP]:
        old.unlink()
    return path


def _second_name(path: Path, name: Path) -> None:
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:  # some file systems have no links
        shutil.copyfile(path, name)


class Saver:
    """Writes checkpoints in a thread of its own, one after the other, while training goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None

    def save(self, tensors: dict[str, np.ndarray], state: dict, best: bool = False) -> None:
        """Begins to write what `save` writes, once the one before is there.

        Raises:
            RunError: the one before could not be written.
        """
        self.wait()
        # The run goes on and changes its state.
        state = json.loads(json.dumps(state))
        self._writing = self._thread.submit(save, self.folder, tensors, state, best)

    def wait(self) -> None:
        """Until all is written; raises RunError if it cannot be."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a folder, or None."""
    return max(folder.glob("step_*.safetensors"), default=None)


def load(path: Path, model: keras.Model) -> dict:
    """Puts a checkpoint into the model and its optimizer and returns its JSON.

    Raises:
        RunError: the file is damaged or belongs to another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            state = json.loads(file.metadata()["mimzoo"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"the checkpoint {path} is damaged ({error}): delete it to go on from the one before."
        ) from error
    targets = variables(model)
    if {n: tuple(v.shape) for n, v in targets.items()} != {n: t.shape for n, t in tensors.items()}:
        odd = sorted(set(targets) ^ set(tensors)) or ["shapes"]
        raise RunError(f"the checkpoint {path} belongs to another model ({odd[0]} differs).")
    for name, variable in targets.items():
        variable.assign(tensors[name])
    return state
