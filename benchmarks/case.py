"""A comparison: a model of ours and the same one of others, and how both are run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.steps import (
    Step,
    keras_inference,
    keras_step,
    torch_inference,
    torch_step,
)

CLASSES = 1000


@dataclass(frozen=True)
class Options:
    """How a case is run.

    Attributes:
        size: of the backbone, such as "tiny".
        batch: images in a step.
        image_size: side in pixels.
        bf16: mixed precision on both sides.
        jit: compile ours on torch, too (on JAX and TensorFlow it always is).
        compiled: add torch.compile'd peers.
        compiled_only: leave out what these are faster than, and ours in float32.
        official: folder of the official code, for cases that need it.
    """

    size: str
    batch: int
    image_size: int
    bf16: bool = False
    jit: bool = False
    compiled: bool = True
    compiled_only: bool = False
    official: str | None = None


class Case(NamedTuple):
    """A comparison.

    Attributes:
        contenders: ours first: name -> what builds it and gives its step.
        flops: operations of a step.
        prepare: makes what the contenders share, before memory is measured.
    """

    contenders: dict[str, Callable[[], Step]]
    flops: Callable[[], float]
    prepare: Callable[[], Any] = lambda: None


def pixels(o: Options, layout: str = "last") -> np.ndarray:
    """Noise as images."""
    images = np.random.default_rng(0).normal(size=(o.batch, o.image_size, o.image_size, 3))
    images = images.astype("float32")
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if layout == "first" else images


def labels(o: Options) -> np.ndarray:
    """A class for each image."""
    return np.arange(o.batch) % CLASSES


def mim_case(o: Options, task: Callable[[], Any], peers: dict[str, Callable]) -> Case:
    """A pretraining step; peers are functions of the masks that give (model, its inputs)."""
    drawn: dict[str, Any] = {}

    def ours() -> Step:
        return keras_step(task(), {"images": pixels(o), "masks": masks()}, jit=o.jit)

    def in_float32() -> Step:
        import keras

        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            return ours()
        finally:
            keras.config.set_dtype_policy(policy)

    def masks() -> np.ndarray:
        if not drawn:
            drawn["masks"] = task().draw(np.arange(o.batch))["masks"]
        return drawn["masks"]

    def flops() -> float:
        from mimzoo_training.flops import step_flops

        return step_flops(task(), o.batch)

    contenders: dict[str, Callable[[], Step]] = {"mimzoo": ours}
    if o.bf16 and not o.compiled_only:
        contenders["mimzoo float32"] = in_float32
    for name, make in peers.items():
        if not (o.compiled and o.compiled_only):
            contenders[name] = lambda make=make: torch_step(*make(masks()), o, compiled=False)
        if o.compiled:
            contenders[f"{name} compiled"] = lambda make=make: torch_step(
                *make(masks()), o, compiled=True
            )
    return Case(contenders, flops, masks)


def classifier_case(
    o: Options, ours: Callable[[], Any], peers: dict[str, Callable], keras_peers: dict, train: bool
) -> Case:
    """A step of fine-tuning, or a forward pass."""

    def keras_contender(make: Callable[[], Any], optimizer: Callable[[Any], Any]) -> Step:
        model = make()
        if train:
            return keras_step(model, pixels(o), labels(o), optimizer(model), o.jit)
        return keras_inference(model, pixels(o), o.jit)

    def our_optimizer(model: Any) -> Any:
        from mimzoo.optimizers import AdamW

        return AdamW(model, 1e-4)

    def keras_optimizer(model: Any) -> Any:
        import keras

        return keras.optimizers.AdamW(1e-4)

    def flops() -> float:
        from mimzoo_training.flops import step_flops

        return step_flops(ours(), o.batch) / (1 if train else 3)

    contenders: dict[str, Callable[[], Step]] = {
        "mimzoo": lambda: keras_contender(ours, our_optimizer)
    }
    for name, make in keras_peers.items():
        contenders[name] = lambda make=make: keras_contender(make, keras_optimizer)
    for name, make in peers.items():
        for compiled in {o.compiled_only and o.compiled, o.compiled}:

            def contender(make: Callable = make, compiled: bool = compiled) -> Step:
                inputs = {"pixel_values": pixels(o, "first")}
                if not train:
                    return torch_inference(make(), inputs, o, compiled)
                return torch_step(make(), {**inputs, "labels": labels(o)}, o, compiled=compiled)

            contenders[f"{name} compiled" if compiled else name] = contender
    return Case(contenders, flops)
