"""A preset is complete, or it is refused: files, hashes, and weights that fit the configuration."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mimzoo.hub.escape import one_line
from mimzoo.hub.manifest import MANIFEST, ManifestError, check_manifest, is_read, read_manifest
from mimzoo.hub.resolve import read_object

CONFIG, TASK, CONVERTER = "config.json", "task.json", "image_converter.json"
WEIGHTS, TASK_WEIGHTS = "model.weights.h5", "task.weights.h5"
SHARDS = "model.weights.json"
# Sanity limits, far above every published model: memory follows from these numbers, and a damaged
# configuration must not take all of it.
MAX_PIXELS, MAX_OTHERS = 4096, 65536
AGAIN = "download or save the preset again"

Shapes = Counter[tuple[int, ...]]
_checked: set[tuple] = set()


def check_preset(folder: Path, backbone_cls: type) -> None:
    """Checks that a folder has all files of a preset, and that they belong together.

    With a `manifest.json`, as `save_to_preset` writes it, files are compared with its hashes.
    Without one, the tensors in the file are compared with the model of `config.json`.

    Args:
        folder: of the preset.
        backbone_cls: of its backbone.

    Raises:
        ValueError: a file is missing, damaged or of another model; the message names it.
    """
    paths = sorted(path for path in folder.iterdir() if is_read(path.name) or path.name == MANIFEST)
    stats = ((path, path.stat()) for path in paths if path.exists())
    key = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    if key in _checked:
        return
    import keras

    config = read_object(folder / CONFIG)["config"]
    listed = (folder / MANIFEST).is_file()
    if listed:
        try:
            check_manifest(folder, is_read)
            known = read_manifest(folder)["files"]
            for path in paths:
                if is_read(path.name) and path.name not in known:
                    raise ManifestError(f"{path} is not in its folder's {MANIFEST}.", path.name)
        except ManifestError as error:
            raise ValueError(
                f"{error} {AGAIN.capitalize()}; if you changed it on purpose, remove {MANIFEST}."
            ) from error
    for name in ("image_shape", "embed_dim"):
        # Without them a backbone of the default size would be built, of 350 MB, to be refused.
        if name not in config:
            raise ValueError(f"{folder / CONFIG} has no {name}: {AGAIN}.")
    files = _weight_files(folder)
    _check_files(folder)
    shapes = sum((tensor_shapes(path) for path in files), Counter())
    _check_sizes(folder / CONFIG, config, shapes)
    if (folder / TASK).is_file():
        _check_task_sizes(folder)
    if not listed:
        with one_sentence_about(folder / CONFIG):
            model = keras.saving.deserialize_keras_object(read_object(folder / CONFIG))
        if not isinstance(model, backbone_cls):
            raise ValueError(f"{folder / CONFIG} holds no {backbone_cls.__name__}: {AGAIN}.")
        check_tensors(files[0], model.weights, shapes, config=CONFIG)
        for file in (*files, *folder.glob(TASK_WEIGHTS)):
            _check_finite(file)
    _checked.add(key)


def check_weights_of_preset(path: Path, backbone_cls: type) -> None:
    """Checks a backbone's file of weights before it is loaded, where it lies in a preset's folder.

    KerasHub's own `from_preset` comes here, too. It may have downloaded some of the files only, so
    a folder without a manifest is not checked.

    Args:
        path: of the file.
        backbone_cls: of the backbone that is to load it.

    Raises:
        ValueError: as `check_preset`.
    """
    folder = path.parent
    if path.name in (WEIGHTS, SHARDS) and all((folder / n).is_file() for n in (CONFIG, MANIFEST)):
        check_preset(folder, backbone_cls)


def _check_files(folder: Path) -> None:
    has_task = (folder / TASK).is_file()
    if (folder / TASK_WEIGHTS).is_file() != has_task:
        missing, there = (TASK_WEIGHTS, TASK) if has_task else (TASK, TASK_WEIGHTS)
        raise ValueError(f"{folder} lacks {missing}, which belongs to its {there}: {AGAIN}.")
    converts = (folder / "preprocessor.json").is_file()
    if has_task:
        converts |= read_object(folder / TASK)["config"].get("preprocessor") is not None
    if converts and not (folder / CONVERTER).is_file():
        raise ValueError(
            f"{folder} lacks {CONVERTER}, with the mean and standard deviation of its training "
            f"images: {AGAIN}."
        )
    if (folder / CONVERTER).is_file():
        _check_statistics(folder / CONVERTER)


def _check_statistics(path: Path) -> None:
    config = read_object(path)["config"]
    for name in ("mean", "std"):
        values = config.get(name)
        numbers = values if isinstance(values, list) else [values]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError(f"{path} has no finite numbers as its {name}: {AGAIN}.")


def _weight_files(folder: Path) -> list[Path]:
    """One file, or Keras' shards of more than 10 GB."""
    sharded = (folder / SHARDS).is_file()
    if sharded and (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has weights twice, in {WEIGHTS} and in shards: {AGAIN}.")
    files = sorted(folder.glob("model_*.weights.h5")) if sharded else [folder / WEIGHTS]
    if not files or not files[0].is_file():
        raise ValueError(f"{folder} lacks {WEIGHTS}: {AGAIN}.")
    return files


def tensor_shapes(path: Path) -> Shapes:
    """How many tensors of each shape a file of weights has; none is read.

    Raises:
        ValueError: no file of weights, or one that is cut off.
    """
    import h5py

    shapes: Shapes = Counter()

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
            shapes[item.shape] += 1

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except Exception as error:  # h5py raises what its C library finds
        raise ValueError(f"{path} is cut off, or no file of weights: {AGAIN}.") from error
    return shapes


def _check_finite(path: Path) -> None:
    import h5py
    import numpy as np

    def visit(name: str, item: Any) -> str | None:
        whole = isinstance(item, h5py.Dataset) and item.dtype.kind == "f"
        return name if whole and not np.isfinite(item[()]).all() else None

    with h5py.File(path) as file:
        name = file.visititems(visit)
    if name is not None:
        raise ValueError(f"{path} holds weights that are not finite ({name}): {AGAIN}.")


def check_tensors(
    path: Path,
    weights: Iterable[Any],
    shapes: Shapes | None = None,
    *,
    config: str,
    count_only: bool = False,
) -> None:
    """Compares a file of weights with the weights of a model.

    Args:
        path: of the file.
        weights: variables of the model.
        shapes: of the file, if it was read already.
        config: the file that the model was made of, for the message.
        count_only: shapes may differ, as of positions that are resized.

    Raises:
        ValueError: one has tensors that the other lacks.
    """
    found = tensor_shapes(path) if shapes is None else shapes
    wanted: Shapes = Counter(
        tuple(weight.shape) for weight in weights if "seed_generator" not in weight.path
    )
    if found == wanted or (count_only and found.total() == wanted.total()):
        return
    more, less = found - wanted, wanted - found
    if count_only:
        difference = f"it has {found.total()} tensors, the model {wanted.total()}"
    else:
        sides = (("only the file has", more), ("only the model has", less))
        difference = "; ".join(f"{words} {_listed(one)}" for words, one in sides if one)
    raise ValueError(
        f"{path.name} in {path.parent} is not of the model in {config} ({difference}): {AGAIN}."
    )


def _listed(shapes: Shapes) -> str:
    shown = [f"{number} x {'x'.join(map(str, shape))}" for shape, number in shapes.items()]
    return ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")


# --- sizes that a configuration may have --------------------------------------------------------


def _check_sizes(path: Path, config: dict, shapes: Shapes) -> None:
    """Every size in a configuration that costs memory must show in the file's tensors."""
    sides = {side for shape in shapes for side in shape}
    count = shapes.total()

    def check(name: str, fits: Any) -> None:
        value = config.get(name)
        try:
            good = name not in config or fits(value)
        except (TypeError, ValueError, OverflowError, IndexError, KeyError):
            good = False
        if not good:
            raise ValueError(
                f"{path} has {name}={one_line(repr(value))[:60]}, which does not fit its weights: "
                f"{AGAIN}."
            )

    check("embed_dim", lambda n: n is None or n in sides)
    check("depth", lambda n: 0 <= n <= count)
    check("depths", lambda n: all(type(x) is int and x > 0 for x in n) and sum(n) <= count)
    check("image_shape", lambda s: len(s) == 3 and all(0 < int(x) <= MAX_PIXELS for x in s))
    check("patch_size", lambda n: n**2 * config["image_shape"][2] in sides)
    check("mlp_ratio", lambda x: x > 0 and int(config["embed_dim"] * x) in sides)
    check("num_heads", lambda n: all(0 < x <= max(sides) for x in ([n] if type(n) is int else n)))
    # A detector has numbers of nine anchors at each place.
    check("num_classes", lambda n: n in sides or 9 * n in sides)
    for name, value in config.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and name != "seed" and number not in sides:
                check(name, lambda _, x=number: math.isfinite(x) and abs(x) <= MAX_OTHERS)


def _check_task_sizes(folder: Path) -> None:
    config = read_object(folder / TASK)["config"]
    shapes = tensor_shapes(folder / TASK_WEIGHTS)
    _check_sizes(folder / TASK, config, shapes)
    for name, part in config.items():
        if name not in ("backbone", "preprocessor") and isinstance(part, dict):
            inside = part.get("config")
            _check_sizes(folder / TASK, inside if isinstance(inside, dict) else {}, shapes)


@contextlib.contextmanager
def one_sentence_about(path: Path) -> Iterator[None]:
    """Turns whatever Keras raises about a file of a preset into one sentence.

    Raises:
        ValueError: the sentence; our own, of one line, pass.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        if isinstance(error, ValueError | OSError) and "\n" not in text and len(text) < 500:
            raise
        raise ValueError(
            f"{path} cannot be used ({type(error).__name__}: {one_line(text)[:200]}): {AGAIN}."
        ) from error
