"""Opening a source of images by its name or path."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimzoo.data.formats import is_image_name
from mimzoo.data.sources import SPLITS, Source

HOLDOUT = 0.1
_STAND_INS = {
    "train": ("train",),
    "validation": ("validation", "test"),
    "test": ("test", "validation"),
}
SPECS = (
    "'embedded' (a small part of Fashion-MNIST, in the package), 'fashion_mnist', 'tfds:NAME', "
    "the path of a folder of images, or the path of a .tar file of one, "
    "'shards:FOLDER', 'shards:PATH/{00000..00999}.tar'"
)


def open_source(
    spec: str | os.PathLike, split: str = "train", holdout: float | None = None
) -> Source:
    """Opens a source of images by name or path.

    Args:
        spec: one of
            "embedded" - a part of Fashion-MNIST that comes with the package: 1,000 labelled
            training images, 2,000 other training images for validation (both class-balanced), and
            the 10,000 test images;
            "fashion_mnist" - all 60,000 and 10,000;
            a folder - its images, found recursively; labelled if every image lies in one of two
            or more first-level subfolders, the classes; folders train/, validation/ and test/
            above either layout are the splits, also by other names (Train, training; val, valid,
            dev, eval; testing). What cannot be read is named in a warning and left out;
            a .tar file of such a folder, read in place; a damaged one is refused;
            "tfds:NAME" - a data set prepared by TensorFlow Datasets, features "image", "label";
            "shards:PATH" - tar files of samples with one stem each (0001.jpg, 0001.json), as
            webdataset and img2dataset write them. The path is a folder of .tar files, a range
            `FOLDER/{00000..00999}.tar` (a missing one is named; several ranges are combined),
            or a pattern `FOLDER/**/*.tar`. Their order is that of their names, or of the range;
            inside, that of the file. Labelled if each image has a .cls; with "#label=FIELD" after
            the path by that field of the .json. They are indexed once: `mimzoo.data.shard_index`.
            Linux and macOS only, as the index needs their file locks.
        split: "train", "validation", "test", or "all" where the source has no splits of its own.
        holdout: the share of "train" that is kept back as "validation" if the source has none:
            the examples whose names hash to the lowest values, of each class its share, so adding
            files moves few.
            Default: 0.1 if the source has neither "validation" nor "test", else 0; of shards
            at most 50,000 images.

    A missing "test" is read from "validation", a missing "validation" (without a holdout) from
    "test". So "train" and "validation" are disjoint always.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: an unknown name or split, a folder without images, splits that are mixed up.
    """
    _check_asked(split, holdout)
    name = os.fspath(spec)
    splits = own_splits(name)
    return choose_split(splits, name, split, holdout)


def choose_split(
    splits: dict[str, Callable[[], Source]], name: str, split: str, holdout: float | None = None
) -> Source:
    """The split of a source that has these; see `open_source`.

    Args:
        splits: each opened by a call.
        name: what errors call the source.
        split: "train", "validation", "test", or "all".
        holdout: see `open_source`.

    Raises:
        ValueError: it has no such split, or `holdout` is no share.
    """
    _check_asked(split, holdout)
    from mimzoo.data.subsets import hold_out

    if split == "all":
        if set(splits) != {"train"}:
            raise ValueError(f"{name} has the splits {', '.join(splits)}; ask for one of these")
        return splits["train"]()
    default = holdout is None
    if default:
        holdout = HOLDOUT if set(splits) == {"train"} else 0.0
    lacks_validation = "train" in splits and "validation" not in splits
    if holdout and lacks_validation and not (split == "test" and "test" in splits):
        source = splits["train"]()
        if default and source.max_held_out:
            holdout = min(holdout, source.max_held_out / len(source))
        side = "train" if split == "train" else "validation"
        return hold_out(source, holdout, side)
    for candidate in _STAND_INS[split]:
        if candidate in splits:
            return splits[candidate]()
    raise ValueError(f"{name} has no split {split!r}, only {', '.join(splits)}")


def is_named(source: Any) -> bool:
    """Whether this is the name or path of a source."""
    return isinstance(source, str | os.PathLike)


def open_for_use(name: str | os.PathLike, split: str, opener: Callable[..., Source]) -> Source:
    """All of a source without splits, of others one split.

    Args:
        name: of the source.
        split: as in `opener`.
        opener: such as `open_source`.
    """
    try:
        return opener(name, "all")
    except ValueError:
        return opener(name, split)


def same_source(one: Any, two: Any) -> bool:
    """Whether both are names of one source."""
    return is_named(one) and is_named(two) and _real(one) == _real(two)


def _real(name: str | os.PathLike) -> str:
    return os.path.realpath(os.path.expanduser(name))


def _refuse_shared(train: Source, validation: Source) -> None:
    """Raises ValueError where files of one folder are in both."""
    one, two = folder_of(train), folder_of(validation)
    if one is None or two is None:
        return
    if not (Path(one).is_relative_to(two) or Path(two).is_relative_to(one)):
        return
    files, others = (
        {os.path.join(folder, source.example_name(index)) for index in range(len(source))}
        for folder, source in ((one, train), (two, validation))
    )
    if shared := len(files & others):
        raise ValueError(
            f"{shared} of the {len(validation)} images of {validation.name} are also trained on: "
            "give other images to validate on, or the same folder for both, of which a tenth is "
            "held out"
        )


def folder_of(source: Source) -> str | None:
    """The folder below which a source's image files lie, links resolved; None: they are none."""
    while hasattr(source, "source"):  # a part of another
        source = source.source
    return os.path.realpath(source.root) if source.kind == "folder" else None


def open_to_fit(
    x: Any,
    validation: Any,
    opener: Callable[..., Source],
    then: Callable[[Any], Callable[..., Source]] | None = None,
) -> tuple[Any, Any]:
    """What to train and to validate on, where it was given by name; anything else stays.

    One name for both: its splits "train" and "validation", so that a part is held out where it has
    no splits. Else all of a source without splits, and its own splits of others.

    Args:
        x: what to train on.
        validation: what to validate on, or None.
        opener: such as `open_source`.
        then: gives the opener of `validation` for what `x` became.

    Raises:
        ValueError: files of one folder would be in both.
    """
    one, split = same_source(x, validation), "validation"
    named = is_named(x) and is_named(validation)
    if is_named(x):
        x = opener(x, "train", holdout=None if one else 0.0)
    opener = opener if then is None else then(x)
    if is_named(validation):
        validation = opener(validation, split) if one else open_for_use(validation, split, opener)
    if named and not one:
        _refuse_shared(x, validation)
    return x, validation


def _check_asked(split: str, holdout: float | None) -> None:
    if holdout is not None and not 0 <= holdout < 1:
        raise ValueError(f"holdout must be a share in [0, 1), got {holdout}")
    if split not in (*SPLITS, "all"):
        raise ValueError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}, all")


def own_splits(spec: str) -> dict[str, Callable[[], Source]]:
    """The splits that a source has of its own, each opened by a call; `spec` as in `open_source`.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: an unknown name, or a source that cannot be used.
    """
    if spec in ("embedded", "fashion_mnist") and os.path.isdir(spec):
        raise ValueError(
            f"{spec} is a data set's name, and a folder here: write ./{spec} for the folder, or "
            "work elsewhere"
        )
    if spec == "embedded":
        from mimzoo.data.fashion_mnist import embedded_splits

        return embedded_splits()
    if spec == "fashion_mnist":
        from mimzoo.data.fashion_mnist import full_splits

        return full_splits()
    if spec.startswith("tfds:"):
        from mimzoo.data.tfds import tfds_splits

        return tfds_splits(spec.removeprefix("tfds:"))
    if spec.startswith("shards:"):
        if os.name == "nt":
            raise ValueError(
                "shards are read on Linux and macOS only: put the images into a folder or one .tar"
            )
        from mimzoo.data.shards import shard_splits

        return shard_splits(spec)
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        from mimzoo.data.folders import folder_splits

        return folder_splits(path)
    if os.path.isfile(path):
        if is_image_name(path):
            raise ValueError(f"{spec} is one image: give its folder, or a list of arrays")
        from mimzoo.data.archives import tar_splits

        return tar_splits(path)
    if os.sep in spec or "." in spec or spec.startswith("~"):
        raise FileNotFoundError(f"no folder or .tar file at {spec}")
    raise ValueError(f"unknown source {spec!r}; use {SPECS}")
