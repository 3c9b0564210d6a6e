"""Data sets of TensorFlow Datasets, read without the TensorFlow runtime."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mimzoo.data.fingerprint import hash_parts
from mimzoo.data.images import to_rgb
from mimzoo.data.sources import SPLITS, Source


class TfdsSource(Source):
    """One split of a prepared data set with a feature "image" and perhaps "label".

    Args:
        builder: the tfds builder.
        split: "train", "validation" or "test".
    """

    kind = "tfds"

    def __init__(self, builder: Any, split: str) -> None:
        self._builder, self._split = builder, split
        self._data = _data_source(builder, split)
        self._names: list[str] | None = None
        super().__init__(f"tfds:{builder.info.full_name} {split}")
        self._has_labels = "label" in builder.info.features
        if self._has_labels:
            feature = builder.info.features["label"]
            self.num_classes = feature.num_classes
            self.class_names = tuple(feature.names)

    def __len__(self) -> int:
        return len(self._data)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8."""
        return self._example(index, min_size)["image"]

    def example_name(self, index: int) -> str:
        """The file name, where the data set has it; the first use reads all, without decoding."""
        if "file_name" not in self._builder.info.features:
            return super().example_name(index)
        if self._names is None:
            names = self._column("file_name")
            self._names = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
        return self._names[index]

    @property
    def labelled(self) -> bool:
        """Whether the examples have labels."""
        return self._has_labels

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32 labels. The first use reads the whole split, without decoding images."""
        if self._has_labels and self._labels is None:
            self._labels = np.array(self._column("label"), np.int32)
        return super().labels

    def _column(self, name: str) -> list[Any]:
        return [record[name] for record in self.undecoded()]

    def undecoded(self) -> Iterator[dict[str, Any]]:
        """All records in their order, images as bytes."""
        from tensorflow_datasets import decode

        data = _data_source(self._builder, self._split, {"image": decode.SkipDecoding()})
        return (data[index] for index in range(len(data)))

    def _example(self, index: int, min_size: int | None) -> dict[str, Any]:
        record = self._data[index]
        example = {"image": np.array(to_rgb(record["image"])), "id": index}
        if self._has_labels:
            known = self._labels is not None
            example["label"] = int(self._labels[index] if known else record["label"])
        return example

    def fingerprint(self) -> str:
        """Of the data set's name, version and split, and of the sizes of its files."""
        info = self._builder.info
        split = info.splits[self._split]
        sizes = f"{split.num_bytes} {split.shard_lengths}"
        return hash_parts("tfds", info.full_name, self._split, sizes)


def tfds_splits(name: str) -> dict[str, Callable[[], Source]]:
    """The splits of the data set `name`, which may name a config and version; see `prepared`."""
    builder, splits = prepared(name)
    return {split: functools.partial(TfdsSource, builder, split) for split in splits}


def prepared(name: str) -> tuple[Any, list[str]]:
    """The builder of a data set with a feature "image", and the splits that it has of ours.

    Nothing is downloaded: the data set has to be prepared in the array_record format.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: no such data set, or one without images.
        FileNotFoundError: it is not prepared on this machine.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"tfds:{name} needs tensorflow-datasets; install it with pip install 'mimzoo[tfds]'"
        ) from error
    try:
        builder = tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TensorFlow Datasets has no data set {name!r}; see tfds.list_builders()"
        ) from error
    if "image" not in builder.info.features:
        raise ValueError(
            f"tfds:{name} has no feature 'image', only {', '.join(builder.info.features)}"
        )
    splits = [split for split in SPLITS if split in builder.info.splits]
    if not splits:
        raise FileNotFoundError(_how_to_prepare(builder))
    return builder, splits


def _data_source(builder: Any, split: str, decoders: dict | None = None) -> Any:
    try:
        return builder.as_data_source(split=split, decoders=decoders)
    except (AssertionError, OSError, NotImplementedError, ValueError) as error:
        raise FileNotFoundError(f"{_how_to_prepare(builder)} ({error})") from error


def _how_to_prepare(builder: Any) -> str:
    name = builder.info.full_name
    return (
        f"tfds:{name} is not prepared for random access in {builder.data_path}; run "
        "tfds.builder(NAME, file_format='array_record').download_and_prepare(), "
        "or set TFDS_DATA_DIR to where it is"
    )
