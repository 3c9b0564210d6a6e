"""Files of `torch.save`: a pickle, read without running any code of it."""

import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

# Where training scripts put the weights, beside optimizer and arguments.
CONTAINERS = ("model", "state_dict", "module", "model_state_dict")
# Averaged weights, where a file has no others.
AVERAGED = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")

# Objects that official training scripts store beside the weights: arguments, configurations,
# numbers. An empty stand-in replaces each, so that nothing of them is imported or run.
HARMLESS = {
    "argparse.Namespace",
    "collections.defaultdict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "yacs.config.CfgNode",
}


_OTHER = (
    "{} is cut off, or is not a torch checkpoint: download it again, or ask its author for a "
    ".safetensors file."
)


class StandIn(dict):
    """Replaces an object that is not needed, and drops its content."""

    def __new__(cls, *args, **kwargs):
        """An empty one, whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Drops the state."""


class TorchFile(Mapping):
    """A `.pth`, `.pt` or `.bin` file, memory-mapped where its format allows.

    Raises:
        ValueError: torch is not installed; a file that is cut off, that would run code, or that
            has no tensors.
    """

    def __init__(self, path: Path):
        self.tensors = _unwrap(_load(path))
        if not self.tensors:
            known = ", ".join((*CONTAINERS, *AVERAGED))
            raise ValueError(f"{path} has no tensors by name, nor under {known}.")

    def __getitem__(self, name: str) -> np.ndarray:
        import torch

        tensor = self.tensors[name].detach().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return tuple(self.tensors[name].shape)


def _load(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ValueError(
            f"reading {path} needs torch: pip install torch, or take a .safetensors file."
        ) from error
    stand_ins = torch.serialization.safe_globals([(StandIn, name) for name in HARMLESS])
    with stand_ins, warnings.catch_warnings():
        # Of pickles that are refused anyway.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return _read(torch, path, mapped=True)
        except _NotMapped:  # a file older than torch 1.6's format
            return _read(torch, path, mapped=False)


class _NotMapped(Exception):
    pass


def _read(torch: Any, path: Path, mapped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = _unsafe_name(str(error))
        if named:
            raise ValueError(
                f"{path} is refused: it holds {named}, which is code and no tensor. Ask its "
                "author for a .safetensors file."
            ) from error
        raise ValueError(_OTHER.format(path)) from error
    except Exception as error:  # damaged files make torch raise anything
        if mapped and "mmap" in str(error):
            raise _NotMapped from error
        raise ValueError(_OTHER.format(path)) from error


def _unsafe_name(message: str) -> str | None:
    """What torch's message says it would not load."""
    for mark in ("GLOBAL ", "unsupported operand ", "Unsupported class "):
        if mark in message:
            return message.split(mark, 1)[1].split()[0].strip("`'.,")
    return None


def _unwrap(loaded: Any, depth: int = 0) -> dict[str, Any]:
    """The state dict inside what a training script saved; empty if there is none."""
    import torch

    if not isinstance(loaded, Mapping) or depth > 3:
        return {}
    for names in (CONTAINERS, AVERAGED):
        for name in names:
            if name in loaded and (tensors := _unwrap(loaded[name], depth + 1)):
                return tensors
        if tensors := {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}:
            return tensors
    return {}
