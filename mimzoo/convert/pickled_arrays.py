"""Files of detectron2's model zoo: a pickle of numpy arrays, read without running code of it."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# All that numpy needs to make arrays of what it pickled, under its old and its new names.
_NUMPY = {
    f"{package}.{name}"
    for package in ("numpy.core", "numpy._core")
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
} | {"numpy.dtype", "numpy.ndarray", "_codecs.encode"}


class _RefusedError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    """Only arrays, numbers, texts and containers of them."""

    def find_class(self, module: str, name: str) -> Any:
        """A function of numpy that makes arrays.

        Raises:
            _RefusedError: any other function or class.
        """
        if f"{module}.{name}" not in _NUMPY:
            raise _RefusedError(f"{module}.{name}")
        return super().find_class(module, name)


class PickledArrays(Mapping):
    """A `.pkl` file with arrays by name under "model" (detectron2, checkpoint/).

    Raises:
        ValueError: a file that is cut off, that would run code, or that has no arrays.
    """

    def __init__(self, path: Path):
        try:
            with open(path, "rb") as file:
                loaded = _Unpickler(file, encoding="latin1").load()
        except _RefusedError as error:
            raise ValueError(
                f"{path} is refused: it holds {error}, which is code and no array. Ask its author "
                "for a .safetensors file."
            ) from error
        except Exception as error:  # damaged pickles raise anything
            raise ValueError(
                f"{path} is cut off, or is no pickle of arrays: download it again."
            ) from error
        model = loaded.get("model") if isinstance(loaded, dict) else None
        arrays = model.items() if isinstance(model, dict) else ()
        self.arrays = {name: value for name, value in arrays if isinstance(value, np.ndarray)}
        if not self.arrays:
            raise ValueError(f"{path} has no arrays by name under model.")

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self.arrays[name].shape
