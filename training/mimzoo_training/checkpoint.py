"""The state of a run in one safetensors file: tensors, and a little JSON. No pickle.

What is saved is finite, and carries a digest by which damage to the file is noticed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimzoo_training.files import RunError, read_json, remove, write_file, write_json

KEEP = 2
BEST = "best.safetensors"
MODEL = "model.json"


class DamagedError(RunError):
    """A checkpoint that cannot be used; there may be another one."""


def own(model: keras.Model, variables: list[Any]) -> list[Any]:
    """Those of the model's variables that its files hold: a teacher's are in files of its own."""
    frozen = {id(v) for v in getattr(model, "frozen_variables", ())}
    return [v for v in variables if id(v) not in frozen]


def variables(model: keras.Model, optimizer: bool = True) -> dict[str, Any]:
    """Name -> variable of all that a step changes: weights, random states, optimizer."""
    groups = {"model": own(model, model.variables)}
    if optimizer:
        groups["optimizer"] = model.optimizer.variables
    # By number: paths repeat, and Keras counts up the name of each new optimizer in a process.
    return {
        f"{group}/{number:04d}": variable
        for group, members in groups.items()
        for number, variable in enumerate(members)
    }


def size(model: keras.Model) -> int:
    """Bytes of one checkpoint, about."""
    return sum(4 * int(np.prod(v.shape)) + 100 for v in variables(model).values())


def missing_bytes(model: keras.Model, folder: Path) -> int:
    """Bytes that the checkpoints of a run may take beyond those that lie in the folder.

    There are at most the last ones, the best, and one that is being written.
    """
    # The best is often another name of one of the last.
    files = (path.stat() for path in folder.glob("*.safetensors") if path.is_file())
    there = {file.st_ino: file.st_size for file in files}
    return max(0, (KEEP + 2) * size(model) - sum(there.values()))


def preset_bytes(model: keras.Model) -> int:
    """Bytes that its preset takes while it is written: twice, and pictures and text."""
    weights = own(model, model.weights)
    return sum(2 * 4 * int(np.prod(v.shape)) + 8_000 for v in weights) + 2_000_000


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
        RunError: a tensor is not finite, or the file cannot be written; older ones stay.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if (name := not_finite(tensors)) is not None:
        raise RunError(
            f"training diverged: {name} is not finite after step {state['step']}, so nothing was "
            f"saved; {last_resort(folder)}"
        )
    text = json.dumps(state)
    metadata = {"mimzoo": text, "sha256": digest(tensors, text)}

    def write(path: Path) -> None:
        try:
            save_file(tensors, path, metadata=metadata)
        except SafetensorError as error:  # its form of a full disk
            raise OSError(str(error)) from error

    path = folder / f"step_{state['step']:09d}.safetensors"
    write_file(path, write)
    if best:
        write_file(folder / BEST, lambda temporary: _second_name(path, temporary))
    # Those of later steps were skipped as damaged.
    found = sorted(folder.glob("step_*.safetensors"))
    kept = [other for other in found if other <= path][-KEEP:]
    for old in set(found) - set(kept):
        remove(old)
    return path


def save_model(folder: Path, model: keras.Model) -> None:
    """Writes `model.json`, of which `build_model` makes the model without its recipe or preset."""
    config = keras.saving.serialize_keras_object(model)
    write_json(folder / MODEL, {k: v for k, v in config.items() if k != "compile_config"})


def build_model(folder: Path) -> keras.Model:
    """The float32 model, with new weights, whose checkpoints lie in a folder.

    Raises:
        RunError: `model.json` is damaged.
        OSError: there is none.
    """
    config = json.dumps(read_json(folder / MODEL, "class_name", "config"))
    return keras.saving.deserialize_keras_object(
        json.loads(config.replace('"mixed_bfloat16"', '"float32"'))
    )


def not_finite(tensors: dict[str, np.ndarray]) -> str | None:
    """The name of the first tensor that holds an infinity or no number; None if all are finite."""
    return next((name for name, value in tensors.items() if not np.isfinite(value).all()), None)


def last_resort(folder: Path) -> str:
    """What to do after a run diverged: the end of a sentence."""
    where = "there is no checkpoint yet"
    if (kept := latest(folder)) is not None:
        where = f"the last finite checkpoint is {kept.name}, from which the same command resumes"
    return f"{where}. Lower the learning rate in a new --workdir, or look at the data of that step."


def digest(tensors: dict[str, np.ndarray], state: str) -> str:
    """SHA-256 of the tensors, their names and shapes, and the JSON beside them."""
    hashed = hashlib.sha256(state.encode())
    for name, value in sorted(tensors.items()):
        hashed.update(f"{name} {value.dtype.name} {value.shape}".encode())
        hashed.update(np.ascontiguousarray(value).reshape(-1).view("uint8"))
    return hashed.hexdigest()


def _second_name(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:  # some file systems have no links
        shutil.copyfile(path, name)


class Saver:
    """Writes checkpoints in a thread of its own, one after the other, while training continues."""

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
        # The run continues and changes its state.
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


def resume(folder: Path, model: keras.Model, say: Callable[[str], None]) -> dict | None:
    """Loads the newest checkpoint that is whole; its JSON, or None if there is no checkpoint.

    Args:
        folder: of the checkpoints.
        model: compiled, its optimizer built.
        say: gets a line for each damaged checkpoint.

    Raises:
        RunError: all are damaged, or they belong to another model.
    """
    found = sorted(folder.glob("step_*.safetensors"), reverse=True)
    for path in found:
        try:
            return load(path, model)
        except DamagedError as error:
            say(f"{error}; it is skipped")
    if found:
        raise RunError(
            f"no checkpoint in {folder} can be used: remove the folder to start again from step 0."
        )
    return None


def load(path: Path, model: keras.Model, optimizer: bool = True) -> dict:
    """Puts a checkpoint into the model and its optimizer and returns its JSON.

    Args:
        path: of the file.
        model: with its optimizer built.
        optimizer: False: only the model's part, into a model that need not be compiled.

    Raises:
        DamagedError: the file is damaged.
        RunError: it cannot be opened, or belongs to another model.
    """
    state, tensors = read(path)
    targets = variables(model, optimizer)
    if not optimizer:
        tensors = {name: t for name, t in tensors.items() if name.startswith("model/")}
    if {n: tuple(v.shape) for n, v in targets.items()} != {n: t.shape for n, t in tensors.items()}:
        odd = sorted(set(targets) ^ set(tensors)) or ["shapes"]
        raise RunError(f"the checkpoint {path} belongs to another model ({odd[0]} differs).")
    for name, variable in targets.items():
        variable.assign(tensors[name])
    return state


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON and the tensors of a checkpoint, verified by their digest if it has one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DamagedError(f"the checkpoint {path} is no file, or a link to none")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
            state = json.loads(metadata["mimzoo"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"the checkpoint {path} is damaged ({error})") from error
    # Files of earlier versions have no digest.
    if metadata.get("sha256") not in (None, digest(tensors, metadata["mimzoo"])):
        raise DamagedError(f"the checkpoint {path} is damaged (its digest differs)")
    if (name := not_finite(tensors)) is not None:
        raise DamagedError(f"the checkpoint {path} holds weights that are not finite ({name})")
    return state, tensors
