"""Checkpoints of other libraries, for the tests: official numbers, random transformers models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mimzoo.convert.files import weight_files
from mimzoo.convert.importing import load

GOLDEN = Path(__file__).parent / "golden"

# Settings that the tensors of the official tiny models do not show: hint -> configuration key.
FACTS = {
    "mae": {"num_heads": "num_heads", "decoder_num_heads": "decoder_num_heads"},
    "mixmim": {"decoder_num_heads": "decoder_num_heads"},
    "simmim_swin": {},
    "simmim_swinv2": {"image_size": "img_size", "window_size": "window_size"},
    "simmim_vit": {},
    "swinv2_cls": {
        "image_size": "img_size",
        "window_size": "window_size",
        "pretrained_window_sizes": "pretrained_window_sizes",
    },
}


def golden(name: str) -> tuple[dict, dict, dict]:
    """Figures of an official tiny model, its state dict, and the facts that go with it."""
    figures = dict(np.load(GOLDEN / f"{name}.npz"))
    config = json.loads(str(figures["config"]))
    state = {k[2:]: v for k, v in figures.items() if k.startswith("w/")}
    return figures, state, {fact: config[key] for fact, key in FACTS[name].items()}


def write(state: dict, path: Path) -> Path:
    """A state dict as a `.safetensors` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
    return path


def of_state(state: dict, folder: Path, **facts: Any) -> Any:
    """Our model with the weights of a state dict."""
    return load(weight_files(write(state, folder / "state.safetensors")), None, facts)[1]


def of_transformers(theirs: Any, folder: Path, **facts: Any) -> Any:
    """Our model with the weights of one of transformers, by way of the files that it saves."""
    theirs.save_pretrained(folder)
    return load(weight_files(folder), None, facts)[1]
