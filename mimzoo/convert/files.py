"""Checkpoint files as tensors by name, read one at a time, never as code."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mimzoo.convert.pickled_arrays import PickledArrays
from mimzoo.hub.cache import cached_digest
from mimzoo.hub.manifest import portable

ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".pkl")
# In a folder, the first that is there; transformers' names.
IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_COMPILED = "_orig_mod."
_WRAPPERS = ("module.", "model.")
# A header larger than this is none: safetensors' own limit.
_MAX_HEADER = 100_000_000
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Tensors(Mapping):
    """Tensors of a checkpoint by name; each is read on access.

    Args:
        parts: what to read from, each a mapping with `shape(name)`.
        names: name here -> (part, name there).
    """

    def __init__(self, parts: Iterable[Any], names: dict[str, tuple[int, str]] | None = None):
        self.parts = list(parts)
        self.names = names or {n: (i, n) for i, part in enumerate(self.parts) for n in part}

    def renamed(self, rename: Any) -> "Tensors":
        """The same tensors under the names `rename(name)`.

        Raises:
            ValueError: two tensors that get one name.
        """
        names: dict[str, tuple[int, str]] = {}
        for name, place in self.names.items():
            new = rename(name)
            if new in names:
                raise ValueError(f"the file has two tensors for {new}.")
            names[new] = place
        return Tensors(self.parts, names)

    def __getitem__(self, name: str) -> np.ndarray:
        part, there = self.names[self._known(name)]
        return self.parts[part][there]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        part, there = self.names[self._known(name)]
        return tuple(self.parts[part].shape(there))

    def count(self, pattern: str) -> int:
        """How many names fit a pattern whose {} is 0, 1, 2, … without a gap."""
        number = 0
        while pattern.replace("{}", str(number)) in self.names:
            number += 1
        return number

    def _known(self, name: str) -> str:
        if name not in self.names:
            raise ValueError(f"the file has no tensor {name}.")
        return name


class Safetensors(Mapping):
    """A `.safetensors` file. Plain reads, not a memory map, whose pages would count as ours.

    Raises:
        ValueError: a file that is cut off, or is no safetensors file.
    """

    def __init__(self, path: Path):
        self.path = path
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise ValueError(f"{path} is cut off, or no safetensors file: download it again.")
            try:
                header = json.loads(file.read(length))
                header.pop("__metadata__", None)
                self.entries = {name: _entry(item) for name, item in header.items()}
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(f"{path} is no safetensors file: its header is broken.") from error
        self.start = 8 + length
        for name, (dtype, shape, first, last) in self.entries.items():
            if last - first != math.prod(shape) * np.dtype(dtype).itemsize:
                raise ValueError(f"{path} is broken: {name} has another size than its shape.")
            if first < 0 or self.start + last > size:
                raise ValueError(
                    f"{path} is cut off: {name} ends at byte {self.start + last}, the file at "
                    f"{size}. Download it again."
                )

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, first, _ = self.entries[name]
        count, offset = math.prod(shape), self.start + first
        return np.fromfile(self.path, dtype, count, offset=offset).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self.entries[name][1]


def _entry(item: dict) -> tuple:
    (first, last), shape = item["data_offsets"], item["shape"]
    if not all(type(n) is int and 0 <= n < 2**63 for n in (first, last, *shape)):
        raise ValueError("sizes and offsets are whole numbers from 0")
    return _DTYPES[item["dtype"]], tuple(shape), first, last


def weight_files(path: str | os.PathLike) -> list[Path]:
    """The files of tensors of a checkpoint: a file, an index of shards, or a folder of either.

    Raises:
        ValueError: nothing to read there, several files to choose from, a missing shard.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    if not path.name.endswith(".index.json"):
        if path.suffix not in ENDINGS:
            raise ValueError(f"{path} is no checkpoint: it has to end in {', '.join(ENDINGS)}.")
        return [path]
    try:
        shards = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no index of shards.") from error
    for name in shards:
        # A name with a folder in it could lead anywhere.
        beside = isinstance(name, str) and portable(name) and "/" not in name
        if not beside or not (path.parent / name).is_file():
            raise ValueError(f"{path} names the shard {name!r}, which is not beside it.")
    return [path.parent / name for name in sorted(shards)]


def _in_folder(folder: Path) -> Path:
    for name in IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in ENDINGS)
    if len(found) != 1:
        number = f"{len(found)} checkpoints: name one of them" if found else "no checkpoint"
        raise ValueError(f"{folder} has {number} ({', '.join(ENDINGS)}).")
    return found[0]


def read_tensors(files: list[Path]) -> Tensors:
    """All tensors of a checkpoint's files.

    Raises:
        ValueError: a file that cannot be read, or that holds more than tensors.
    """
    from mimzoo.convert.torch_files import TorchFile

    readers = {".safetensors": Safetensors, ".pkl": PickledArrays}
    parts = [readers.get(path.suffix, TorchFile)(path) for path in files]
    tensors = Tensors(parts)
    if len(tensors) != sum(map(len, parts)):
        raise ValueError(f"the shards of {files[0].parent} hold a tensor twice.")
    return without_wrappers(tensors)


def without_wrappers(tensors: Tensors) -> Tensors:
    """The tensors by the model's own names: training wraps models, and files keep the wrappers.

    `module.` is of data parallelism, `_orig_mod.` of torch.compile, `model.` of Lightning.

    Raises:
        ValueError: two tensors that get one name.
    """
    tensors = tensors.renamed(lambda name: name.replace(_COMPILED, ""))
    for wrapper in _WRAPPERS * 2:  # in either order
        if all(name.startswith(wrapper) for name in tensors):
            tensors = tensors.renamed(lambda name, wrapper=wrapper: name.removeprefix(wrapper))
    return tensors


def sha256(files: list[Path]) -> str:
    """SHA-256 of a file; of several, that of their own hashes in order."""
    digests = [cached_digest(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
