"""From a checkpoint to a preset."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimzoo.convert.files import Tensors, read_tensors, sha256, weight_files
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.layout import Layout
from mimzoo.convert.record import record, stored_hints
from mimzoo.convert.registry import choose
from mimzoo.convert.table import variable
from mimzoo.convert.tasks import build, converter, table
from mimzoo.hub.card import card
from mimzoo.hub.contents import CONVERSION
from mimzoo.hub.download import download
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.licences import card_licence
from mimzoo.hub.manifest import is_read, write_manifest

Progress = Callable[[int, int], None]


def convert(
    source: str | os.PathLike,
    out: str | os.PathLike,
    layout: str | None = None,
    licence: str | None = None,
    progress: Progress | None = None,
    **hints: Any,
) -> dict[str, Any]:
    """Writes a checkpoint of another library as a preset folder, whole or not at all.

    Tensors are read one at a time, as tensors only: a pickle that would run code is refused.
    Any unmapped tensor of the file, or weight of the model, aborts the conversion.

    Args:
        source: a `.safetensors`, `.pth`, `.pt`, `.bin` or `.pkl` (detectron2's) file, an index of
            shards, a folder of either, or `hf://org/name[@revision][/folder or file]`.
        out: the folder to make.
        layout: name of the layout; default: inferred from the names of the tensors.
        licence: of the weights; default: the model card's beside the file, else the layout's.
        progress: called with the tensors done and their number.
        **hints: settings that no tensor shows: `image_size`, `window_size`,
            `pretrained_window_sizes`, `num_heads`, `decoder_num_heads`, `layer_norm_epsilon`,
            `decoder_layer_norm_epsilon`, `mask_ratio`, `mask_patch_size`, `norm_pix_loss`,
            `shorter_side`, `mean`, `std`.

    Returns:
        What `conversion.json` in the folder holds, such as "layout", "tensors" and "sha256".

    Raises:
        ValueError: a file that cannot be read or has another layout, a tensor that is missing,
            unmapped, of a wrong shape or not finite; `out` exists.
        TypeError: an unknown or unused option.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists already: choose another folder.")
    return convert_local(local(str(source)), str(source), out, layout, licence, progress, hints)


def convert_local(
    path: Path,
    source: str,
    out: Path,
    layout: str | None = None,
    licence: str | None = None,
    progress: Progress | None = None,
    hints: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`convert` of a file or folder on this machine; `source` is recorded as its origin."""
    files = weight_files(path)
    counts, model, image_converter = load(files, layout, hints or {}, progress)
    found = counts.pop("layout")
    licence = licence or card_licence(files[0].parent) or found.licence
    name = files[0].name if len(files) == 1 else path.name
    entry = record(found, source, name, sha256(files), licence, **counts)
    _write(out, model, image_converter, entry)
    return entry


def local(source: str) -> Path:
    """The file or folder of a source on this machine, downloaded if need be."""
    if not source.startswith(HF_PREFIX):
        return Path(source)
    return download(Handle.parse(source)).path


def load(
    files: list[Path],
    layout: str | None,
    hints: Mapping[str, Any],
    progress: Progress | None = None,
) -> tuple[dict, Any, Any]:
    """A model with the weights of a checkpoint's files.

    Returns:
        Layout, counts and type of number; the task or backbone; its image converter.
    """
    tensors = read_tensors(files)
    found = choose(tensors, layout)
    tensors = found.spell(tensors)
    known = ConversionHints(hints, stored_hints(files[0].parent, found), found.defaults)
    model = build(found, tensors, known)
    image_converter = converter(getattr(model, "backbone", model), known)
    known.check_used()
    mapped, ignored, dtype = assign(found, model, tensors, progress)
    counts = {"tensors": mapped, "ignored": ignored, "dtype": dtype}
    return {"layout": found, **counts}, model, image_converter


def assign(
    layout: Layout, model: Any, tensors: Tensors, progress: Progress | None = None
) -> tuple[int, int, str]:
    """Gives a model the weights of a file.

    Returns:
        How many tensors were mapped and how many ignored, and the type of their numbers.

    Raises:
        ValueError: see `convert`.
    """
    rows = table(layout, model)
    wanted = [name for row in rows for name in row.theirs]
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise ValueError(
            f"the file lacks {_listed(missing)}, which the layout {layout.name} needs."
        )
    rest = sorted(set(tensors) - set(wanted))
    ignored = [name for name in rest if layout.ignores(name)]
    if left_over := sorted(set(rest) - set(ignored)):
        raise ValueError(
            f"the layout {layout.name} has no place for {_listed(left_over)} of the file."
        )
    check_complete(layout, model, [path for row in rows for path in row.ours])
    dtypes, done = set(), 0
    for row in rows:
        theirs = [tensors[name] for name in row.theirs]
        dtypes |= {str(x.dtype) for x in theirs}
        _assign_row(row, theirs, model)
        done += len(theirs)
        if progress:
            progress(done, len(wanted))
    return len(wanted), len(ignored), dtypes.pop() if len(dtypes) == 1 else "mixed"


def _assign_row(row: Any, theirs: list[np.ndarray], model: Any) -> None:
    for name, value in zip(row.theirs, theirs, strict=True):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} has numbers that are not finite: the file is damaged.")
    shapes = " and ".join(f"{n} {x.shape}" for n, x in zip(row.theirs, theirs, strict=True))
    try:
        ours = row.transform.to_ours(*theirs)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{shapes}: {str(error).rstrip('.')}.") from error
    for path, value in zip(row.ours, ours, strict=True):
        weight = variable(model, path)
        if tuple(weight.shape) != value.shape:
            raise ValueError(
                f"{shapes} does not fit: {path} has shape {tuple(weight.shape)}, which this "
                f"would fill with {value.shape}."
            )
        weight.assign(np.ascontiguousarray(value, "float32"))


def check_complete(layout: Layout, model: Any, paths: list[str]) -> None:
    """Raises ValueError for a weight of the model that a layout has no name for."""
    named = {id(variable(model, path)) for path in paths}
    for weight in model.weights:
        if id(weight) not in named and "seed_generator" not in weight.path:
            raise ValueError(f"the layout {layout.name} has no tensor for {weight.path}.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _write(out: Path, model: Any, image_converter: Any, entry: dict) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two processes may fill one cache.
    temporary = Path(tempfile.mkdtemp(prefix=f".writing-{out.name}-", dir=out.parent))
    try:
        temporary.chmod(0o755)
        model.save_to_preset(str(temporary))
        if isinstance(model, keras.Model) and not hasattr(model, "preprocessor"):
            image_converter.save_to_preset(str(temporary))
            write_manifest(temporary, is_read)
        text = json.dumps(entry, indent=2, ensure_ascii=False) + "\n"
        (temporary / CONVERSION).write_text(text, encoding="utf-8")
        (temporary / "README.md").write_text(card(temporary), encoding="utf-8")
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
