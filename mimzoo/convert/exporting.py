"""From a preset to a checkpoint of another library: the same table, read backwards."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

from mimzoo.convert.importing import check_complete
from mimzoo.convert.layout import Layout
from mimzoo.convert.record import read_json
from mimzoo.convert.registry import get_layout
from mimzoo.convert.table import variable
from mimzoo.convert.tasks import TASKS, table
from mimzoo.hub.contents import CONVERSION


def export(preset: str | os.PathLike, layout: str, out: str | os.PathLike) -> dict[str, Any]:
    """Writes a preset as a `.safetensors` file in the layout of another library.

    A preset that was converted from that layout gives the tensors of the file again, bit for bit;
    derived buffers are left out.

    Args:
        preset: name, folder or `hf://org/name`.
        layout: name of the layout.
        out: the file to make.

    Returns:
        "tensors", their number, and "left_out", the number of the task's weights that the layout
        does not hold, such as the decoder in one of the encoder only.

    Raises:
        ValueError: an unknown layout, a preset that does not fit it, `out` exists or does
            not end in `.safetensors`.
    """
    from safetensors.numpy import save_file

    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"{out} has to end in .safetensors.")
    if out.exists():
        raise ValueError(f"{out} exists already: choose another file.")
    found = get_layout(layout)
    model, left_out, dtype = _load(str(preset), found)
    tensors = to_tensors(found, model, dtype)
    temporary = out.with_name(f".writing-{out.name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"format": "pt"})
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return {"tensors": len(tensors), "left_out": left_out}


def to_tensors(layout: Layout, model: Any, dtype: str = "float32") -> dict[str, np.ndarray]:
    """A model's weights by a layout's names.

    Args:
        layout: see `get_layout`.
        model: a task of the layout's kind, or a backbone.
        dtype: of the tensors; one that would lose something stays float32.

    Raises:
        ValueError: a model with a weight that the layout has no place for.
    """
    rows = table(layout, model)
    check_complete(layout, model, [path for row in rows for path in row.ours])
    number = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    tensors: dict[str, np.ndarray] = {}
    for row in rows:
        ours = [keras.ops.convert_to_numpy(variable(model, path)) for path in row.ours]
        theirs = row.transform.to_theirs(*ours)
        for name, value in zip(row.theirs, theirs, strict=True):
            rounded = value.astype(number, copy=False)
            same = rounded is value or np.array_equal(rounded.astype(value.dtype), value)
            tensors[name] = np.ascontiguousarray(rounded if same else value)
    return tensors


def _load(preset: str, layout: Layout) -> tuple[Any, int, str]:
    """The preset as the layout wants it, what of it is left out, the type of its numbers."""
    from mimzoo.hub import resolve
    from mimzoo.models import Backbone

    folder = Path(resolve(preset))
    stored = read_json(folder / "task.json").get("registered_name")
    cls = keras.saving.get_registered_object(stored) if stored else Backbone
    model = cls.from_preset(str(folder))
    backbone = getattr(model, "backbone", model)
    if not issubclass(layout.backbone, type(backbone)):
        raise ValueError(
            f"the layout {layout.name} is of a {layout.backbone.__name__}, the preset holds a "
            f"{type(backbone).__name__}."
        )
    wanted = TASKS[layout.task].cls
    left_out = 0
    if layout.task == "backbone":
        left_out = len(model.weights) - len(backbone.weights)
        model = backbone
    elif not isinstance(model, wanted):
        raise ValueError(
            f"the layout {layout.name} is of a {wanted.__name__}, the preset holds a "
            f"{type(model).__name__}."
        )
    entry: Mapping[str, Any] = read_json(folder / CONVERSION)
    same = entry.get("layout") == layout.name and entry.get("dtype") != "mixed"
    return model, left_out, entry["dtype"] if same else "float32"
