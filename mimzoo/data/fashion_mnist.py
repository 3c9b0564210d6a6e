"""Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017; MIT licence): a part in the package, or all."""

import functools
import gzip
import io
import lzma
import os
from collections.abc import Callable
from importlib import resources

import numpy as np

from mimzoo.data.sources import ArraySource, Source

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
FOLDER_VARIABLE = "MIMZOO_FASHION_MNIST"
_PREFIXES = {"train": "train", "test": "t10k"}


def embedded_splits() -> dict[str, Callable[[], Source]]:
    """1,000 training, 2,000 validation and 10,000 test images, from the package itself."""
    return {split: functools.partial(_embedded, split) for split in ("train", "validation", "test")}


def full_splits() -> dict[str, Callable[[], Source]]:
    """60,000 training and 10,000 test images; see `load` for where they are looked for."""
    return {split: functools.partial(_full, split) for split in ("train", "test")}


def _embedded(split: str) -> ArraySource:
    arrays = _embedded_arrays()
    return ArraySource(
        arrays[f"{split}_images"], arrays[f"{split}_labels"], CLASS_NAMES, f"embedded {split}"
    )


@functools.cache
def _embedded_arrays() -> dict[str, np.ndarray]:
    packed = resources.files("mimzoo.data").joinpath("fashion_mnist_small.npz.xz").read_bytes()
    with np.load(io.BytesIO(lzma.decompress(packed)), allow_pickle=False) as file:
        return {name: _frozen(file[name]) for name in file.files}


def _full(split: str) -> ArraySource:
    images, labels = load(split)
    return ArraySource(images, labels, CLASS_NAMES, f"fashion_mnist {split}")


@functools.cache
def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The whole set: (N, 28, 28) uint8 images and (N,) uint8 labels, "train" or "test".

    Read from the folder in the environment variable MIMZOO_FASHION_MNIST, else from where
    Debian's package dataset-fashion-mnist puts it, else with `keras.datasets`, which downloads.

    Raises:
        FileNotFoundError: it is in none of these places.
        ValueError: a file is damaged.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None and os.path.isdir(DEBIAN_FOLDER):
        folder = DEBIAN_FOLDER
    if folder is None:
        images, labels = _from_keras(split)
    else:
        prefix = os.path.join(folder, _PREFIXES[split])
        images = read_idx(f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(f"{prefix}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"Fashion-MNIST {split}: {images.shape} images do not fit {labels.shape} labels"
        )
    return _frozen(images), _frozen(labels)


def read_idx(path: str) -> np.ndarray:
    """An array of bytes from a gzipped IDX file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        with gzip.open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no Fashion-MNIST file at {path}; set {FOLDER_VARIABLE} to the folder that has it"
        ) from None
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    # Two zero bytes, the type (8: unsigned byte), the number of axes, their lengths.
    if data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"{path} is no IDX file of bytes")
    axes = data[3]
    shape = tuple(np.frombuffer(data, ">u4", axes, 4).tolist())
    if len(data) - 4 - 4 * axes != int(np.prod(shape)):
        raise ValueError(f"{path} is damaged: its header announces {shape} bytes")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _from_keras(split: str) -> tuple[np.ndarray, np.ndarray]:
    import keras

    try:
        train, test = keras.datasets.fashion_mnist.load_data()
    # Keras raises a plain Exception where the download fails.
    except Exception as error:
        raise FileNotFoundError(
            f"Fashion-MNIST is not on this machine and could not be downloaded ({error}); install "
            f"Debian's dataset-fashion-mnist, or set {FOLDER_VARIABLE} to a folder with its four "
            "idx-ubyte.gz files, or use the source 'embedded'"
        ) from error
    return train if split == "train" else test


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
