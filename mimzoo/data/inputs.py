"""A batch as users have it -> a batch as a task's step takes it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mimzoo.data.loader_check import check_weights
from mimzoo.data.pixels import ValueRange, infer_range, rgb_images
from mimzoo.data.stream import to_numpy


@dataclasses.dataclass(frozen=True)
class Inputs:
    """How a task takes its images, labels and whatever else its step needs.

    Attributes:
        image_shape: (H, W, C) of the backbone; None: images may have any.
        check_labels: raises ValueError for labels (B, ...) that do not fit.
        check_ready: raises ValueError for a dict of inputs that does not fit.
        transform, normalize: of the loader; see `mimzoo.data.Loader`.
        value_range: of images of floats; None: inferred.
        convert: in place of the three: a batch as users have it -> (B, H, W, C) float32.
        raw: whether images come as the backbone wants them.
        draw: what a step needs beside images, from (indices, epoch); None for nothing.
        multiple: of which a batch has to have a whole number of images.
    """

    image_shape: tuple[int, int, int] | None
    check_labels: Callable[[Any], None]
    check_ready: Callable[[dict], None]
    transform: Callable | None = None
    normalize: Callable | None = None
    value_range: ValueRange | None = None
    convert: Callable | None = None
    raw: bool = False
    draw: Callable[[np.ndarray, int], dict[str, np.ndarray]] | None = None
    multiple: int = 1

    def checked(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, C) float32; raises ValueError for images of another shape."""
        images = np.asarray(images, np.float32)
        if self.image_shape is not None and images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images have the shape {images.shape}, the backbone takes "
                f"(N, {', '.join(map(str, self.image_shape))}): resize them, or load the backbone "
                "with another image_shape."
            )
        return images

    def ready(self, images: np.ndarray) -> np.ndarray:
        """`checked`, of images that nothing prepares any more; raises ValueError for pixels."""
        if images.dtype.kind in "iub":
            raise ValueError(
                f"these images are {images.dtype}, pixels as they are, where they have to come as "
                "the backbone takes them: use task.preprocess(images)."
            )
        return self.checked(images)


def check_labelled(y: Any, labelled: bool) -> None:
    """Raises ValueError where labels are needed and missing."""
    if labelled and y is None:
        raise ValueError(
            "labels are missing: give y, (images, labels) batches, or a source with labels."
        )


class Weights:
    """Weights of examples by their class."""

    def __init__(self, class_weight: dict[int, float] | None) -> None:
        self.class_weight = class_weight

    def __call__(self, labels: np.ndarray | None, sample_weight: Any) -> Any:
        """Weights (N,) of these labels; those given where there is no class_weight.

        `labels` may be None without class_weight, which tasks without labels refuse.
        """
        if self.class_weight is None:
            return None if sample_weight is None else checked_weights(sample_weight)
        if sample_weight is not None:
            raise ValueError("give class_weight or sample_weight, not both.")
        classes = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels
        classes = classes.reshape(len(labels))
        missing = sorted(set(np.unique(classes).tolist()) - set(self.class_weight))
        if missing:
            raise ValueError(f"class_weight has no weight of class {missing[0]}.")
        weights = np.array([self.class_weight[c] for c in classes.tolist()], np.float32)
        return checked_weights(weights, "class_weight")


def checked_weights(weights: Any, name: str = "sample_weight") -> np.ndarray:
    """As an array; raises ValueError for weights that are negative or not finite."""
    weights = to_numpy(weights)
    check_weights(weights, name)
    return weights


class Prepare:
    """A batch as a data set gives it -> a batch as the model takes it."""

    def __init__(self, inputs: Inputs, weigh: Weights, labelled: bool, ready: bool = False) -> None:
        self.inputs, self.weigh, self.labelled = inputs, weigh, labelled
        self.ready = ready or inputs.raw
        self.value_range = inputs.value_range

    def __call__(self, batch: Any, index: np.ndarray, epoch: int) -> Any:
        """Checks and prepares a batch of the examples `index` (B,)."""
        x, y, weight = _unpacked(batch)
        if isinstance(x, dict):
            x = {name: to_numpy(values) for name, values in x.items()}
            self.inputs.check_ready(x)
            self.inputs.ready(x["images"])
        else:
            x = self._images(x)
            if self.inputs.multiple > 1 and len(x) % self.inputs.multiple:
                raise ValueError(
                    f"a batch of {len(x)} images, and {self.inputs.multiple} are needed at a time: "
                    "give batches of a multiple of that."
                )
            if self.inputs.draw is not None:
                x = {"images": x, **self.inputs.draw(index, epoch)}
        check_labelled(y, self.labelled)
        if self.inputs.draw is not None or y is None:
            if weight is not None:
                raise ValueError(
                    "these batches have weights, which are for labels: leave them out, or give "
                    '{"images", "masks", "weights"}.'
                )
            return x
        y = to_numpy(y)
        self.inputs.check_labels(y)
        weight = self.weigh(y, weight)
        return (x, y) if weight is None else (x, y, to_numpy(weight).astype(np.float32))

    def _images(self, images: Any) -> np.ndarray:
        inputs = self.inputs
        if self.ready:
            return inputs.ready(to_numpy(images))
        images = images if isinstance(images, list) else to_numpy(images)
        if inputs.convert is not None:
            return inputs.checked(inputs.convert(images))
        if self.value_range is None:
            self.value_range = infer_range([np.asarray(image) for image in images])
        images = rgb_images(images, self.value_range)
        if inputs.transform is not None:
            images = [inputs.transform(image) for image in images]
        return inputs.checked(inputs.normalize(np.stack(images)))


def _unpacked(batch: Any) -> tuple[Any, Any, Any]:
    if isinstance(batch, list | tuple) and not _is_list_of_images(batch):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                f"a batch must be images, (images, labels) or (images, labels, weights), got "
                f"{len(batch)} parts."
            )
        return tuple(batch) + (None,) * (3 - len(batch))
    return batch, None, None


def _is_list_of_images(batch: Any) -> bool:
    return isinstance(batch, list) and all(np.ndim(x) in (2, 3) for x in batch)
