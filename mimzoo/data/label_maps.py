"""Images with a label map each: the class of every pixel.

An image and its label map are one array (H, W, 4) uint8: red, green, blue and class number. So
whatever cuts, turns or scales the one does the same to the other, and the loader, subsets, worker
threads and resuming are those of all images.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.ids import printable
from mimzoo.data.images import opened
from mimzoo.data.pixels import ValueRange, rgb_images
from mimzoo.data.sources import EncodedSource, Source
from mimzoo.data.upright import Upright

# The number of pixels that belong to no class, in all that leaves a source.
IGNORED = 255
_NO_CLASS = 256
_SCALES = {2: 85, 4: 17}


class LabelMapError(ValueError):
    """A label map that does not fit its image or the classes. The message has its name."""


def class_table(num_classes: int, ignore_index: int = IGNORED, first_class: int = 0) -> np.ndarray:
    """(256,) int16: what a number of a label map means: a class, 255 for none, 256 for an error.

    Args:
        num_classes: of the numbers from `first_class` on.
        ignore_index: a number that means no class; 255 always does. Others than 0..255 are in no
            file.
        first_class: the number of class 0; smaller ones mean no class.

    Raises:
        ValueError: more classes than the numbers below 255.
    """
    if not 1 <= num_classes <= IGNORED - first_class or first_class < 0:
        raise ValueError(
            f"label maps have numbers below {IGNORED}, too few for {num_classes} classes from "
            f"{first_class} on"
        )
    table = np.full(256, _NO_CLASS, np.int16)
    table[first_class : first_class + num_classes] = np.arange(num_classes)
    table[:first_class] = IGNORED
    table[IGNORED] = IGNORED
    if 0 <= ignore_index < IGNORED:
        table[ignore_index] = IGNORED
    return table


def check_label_maps(
    maps: np.ndarray, num_classes: int, ignore_index: int = IGNORED, name: str | None = None
) -> None:
    """Raises ValueError unless these are label maps (N, H, W) of class numbers.

    Args:
        maps: (N, H, W) or (N, H, W, 1) integers.
        num_classes: of which all numbers are smaller, but for 255 and `ignore_index`.
        ignore_index: a number that means no class.
        name: what the error calls them.
    """
    maps = np.asarray(maps)
    if maps.ndim not in (3, 4) or (maps.ndim == 4 and maps.shape[-1] != 1):
        raise ValueError(f"label maps must be (N, H, W) class numbers, got the shape {maps.shape}")
    if maps.dtype.kind not in "iub":
        raise ValueError(f"label maps must be integers, got dtype {maps.dtype}")
    wrong = (maps < 0) | (maps >= num_classes)
    wrong &= (maps != IGNORED) & (maps != ignore_index)
    if wrong.any():
        raise LabelMapError(_no_class(maps[wrong][0], name or "a label map", num_classes))


def _no_class(number: int, name: str, num_classes: int, first_class: int = 0) -> str:
    last = first_class + num_classes - 1
    return (
        f"{name} has pixels of number {number}, which is no class: {num_classes} classes are "
        f"numbered {first_class} to {last}; give more classes, or ignore_index={number}"
    )


def decode_label_map(data: bytes, name: str) -> np.ndarray:
    """Decodes a label PNG: grey values, or of a palette its indices.

    Args:
        data: the bytes of a file.
        name: what an error calls it.

    Returns:
        (H, W) uint8.

    Raises:
        LabelMapError: the picture has colours or transparency, or numbers above 255.
        ImageError: it cannot be read.
    """
    with opened(data, name) as image:
        image.load()
        mode, numbers = image.mode, np.array(image)
    if mode in ("P", "1"):
        return numbers.astype(np.uint8)
    if mode == "L":
        # Pillow spreads the values of files with 2 or 4 bits a pixel over 0..255.
        bits = data[24] if data[:4] == b"\x89PNG" else 8
        return numbers // np.uint8(_SCALES.get(bits, 1))
    if not mode.startswith("I"):
        raise LabelMapError(
            f"{printable(name)} is a picture of mode {mode}, no label map: save one class number a "
            "pixel, as a grey or palette PNG"
        )
    if numbers.max() > IGNORED:
        raise LabelMapError(
            f"{printable(name)} has the number {numbers.max()}: class numbers go up to {IGNORED}"
        )
    return numbers.astype(np.uint8)


class _Labelled(Source):
    """What sources with label maps share: classes, and joining an image with its map."""

    dense = True

    def __init__(
        self,
        name: str,
        num_classes: int,
        ignore_index: int,
        first_class: int,
        class_names: Iterable[str] | None,
    ) -> None:
        super().__init__(name, class_names=class_names)
        self.table = class_table(num_classes, ignore_index, first_class)
        self.num_classes, self.first_class = num_classes, first_class
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(
                f"{self.name} names {len(self.class_names)} classes, and num_classes is "
                f"{num_classes}: give as many"
            )

    def label_map(self, index: int) -> np.ndarray:
        """The numbers of example `index` as they are stored: (H, W) uint8."""
        raise NotImplementedError

    def map_name(self, index: int) -> str:
        """What errors call the label map of example `index`."""
        raise NotImplementedError

    def join(self, image: np.ndarray, index: int) -> np.ndarray:
        """(H, W, 3) and the label map of `index` -> (H, W, 4) uint8, 255 where there is no class.

        Raises:
            LabelMapError: sizes differ, or a number is no class.
        """
        numbers = self.label_map(index)
        if numbers.shape != image.shape[:2]:
            (tall, wide), (rows, columns) = numbers.shape, image.shape[:2]
            raise LabelMapError(
                f"{self.map_name(index)} has {wide} x {tall} pixels and its image "
                f"{columns} x {rows}: both must have the same size"
            )
        classes = self.table[numbers]
        if classes.max(initial=0) == _NO_CLASS:
            number = numbers[classes == _NO_CLASS].flat[0]
            raise LabelMapError(
                _no_class(number, self.map_name(index), self.num_classes, self.first_class)
            )
        return np.concatenate([image, classes[..., None].astype(np.uint8)], axis=-1)


class LabelMapSource(_Labelled):
    """Image files, and a label PNG for each.

    Args:
        images: the images.
        maps: as many label maps, in the same order.
        num_classes: of the numbers from `first_class` on.
        ignore_index, first_class: see `class_table`.
        class_names: their names, or None.
    """

    def __init__(
        self,
        images: EncodedSource,
        maps: EncodedSource,
        num_classes: int,
        ignore_index: int = IGNORED,
        first_class: int = 0,
        class_names: Iterable[str] | None = None,
    ) -> None:
        super().__init__(images.name, num_classes, ignore_index, first_class, class_names)
        self.images_of, self.maps_of = images, maps
        self.upright = Upright("label maps")
        self.kind, self.root = images.kind, images.root

    def __len__(self) -> int:
        return len(self.images_of)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image and label map `index`: (H, W, 4) uint8."""
        return self.join(self.upright.image(self.images_of, index), index)

    def label_map(self, index: int) -> np.ndarray:
        """The numbers in file `index`: (H, W) uint8."""
        return decode_label_map(*self.maps_of.encoded(index))

    def map_name(self, index: int) -> str:
        """The file's path."""
        return self.maps_of.encoded(index)[1]

    def example_name(self, index: int) -> str:
        """The name of the image's file."""
        return self.images_of.example_name(index)

    def fingerprint(self) -> str:
        """Of the names and sizes of all files, and of what the numbers mean."""
        parts = self.images_of.fingerprint(), self.maps_of.fingerprint()
        return hash_parts("label maps", *parts, hash_array(self.table))


class LabelledPictures(_Labelled):
    """Images and label maps in memory.

    Args:
        images: (N, H, W, 3), or a list of images of any size; see `rgb_images`.
        maps: (N, H, W) or (N, H, W, 1) integers, or a list of (H, W).
        num_classes, ignore_index: see `class_table`; `ignore_index` may be any integer.
        value_range: (low, high) of images of floats; default: inferred.
        name: what messages call the source.

    Attributes:
        same_size: whether all images have one size.

    Raises:
        ValueError: another number of maps than of images, or numbers that are no class.
    """

    def __init__(
        self,
        images: Any,
        maps: Any,
        num_classes: int,
        ignore_index: int = IGNORED,
        value_range: ValueRange | None = None,
        name: str = "array",
    ) -> None:
        super().__init__(name, num_classes, IGNORED, 0, None)
        self.ignore_index = ignore_index
        self._images = rgb_images(images, value_range)
        self._maps = [np.asarray(one) for one in maps]
        if len(self._images) != len(self._maps):
            raise ValueError(
                f"there are {len(self._images)} images and {len(self._maps)} label maps: give one "
                "map for each image"
            )
        for index, one in enumerate(self._maps):
            check_label_maps(one[None], num_classes, ignore_index, self.map_name(index))
        self.same_size = len({image.shape for image in self._images}) == 1

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image and label map `index`: (H, W, 4) uint8."""
        return self.join(self._images[index], index)

    def label_map(self, index: int) -> np.ndarray:
        """The numbers of example `index`: (H, W) uint8, 255 for `ignore_index`."""
        numbers = self._maps[index].reshape(self._maps[index].shape[:2])
        # Before the cast, which would make class 0 of 256.
        return np.where(numbers == self.ignore_index, IGNORED, numbers).astype(np.uint8)

    def map_name(self, index: int) -> str:
        """Its number."""
        return f"label map {index}"

    def fingerprint(self) -> str:
        """Of shape and bytes of all images and label maps."""
        arrays = [*self._images, *self._maps]
        return hash_parts("labelled pictures", *map(hash_array, arrays))
