"""Segmentation and detection: a step as `fit` runs it, with losses and metrics by default."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.case import Case, Options, pixels
from benchmarks.steps import Step, keras_step, torch_step

CLASSES = 150  # of ADE20K
OBJECTS = 8


def dense_case(
    o: Options, task: Callable[[], Any], targets: Any, peer: Callable[[], Any] | None
) -> Case:
    """A training step; `peer` gives a model of pixel_values and labels."""

    def ours() -> Step:
        from mimzoo.optimizers import LayerDecayAdamW

        model = task()
        optimizer = LayerDecayAdamW(model, 1e-4)
        return keras_step(model, pixels(o), targets, optimizer, o.jit, default_loss=True)

    def theirs(compiled: bool) -> Step:
        inputs = {"pixel_values": pixels(o, "first"), "labels": targets}
        return torch_step(peer(), inputs, o, compiled=compiled)

    def flops() -> float:
        from mimzoo_training.flops import step_flops

        return step_flops(task(), o.batch)

    contenders: dict[str, Callable[[], Step]] = {"mimzoo": ours}
    if peer and not (o.compiled and o.compiled_only):
        contenders["transformers"] = lambda: theirs(False)
    if peer and o.compiled:
        contenders["transformers compiled"] = lambda: theirs(True)
    return Case(contenders, flops)


def segment(o: Options, backbone: Callable[[], Any], config: Callable[..., Any]) -> Case:
    """UPerNet beside `UperNetForSemanticSegmentation`.

    Args:
        o: how the case is run.
        backbone: makes ours.
        config: makes that of transformers, of the outputs named.
    """

    def task() -> Any:
        from mimzoo.models import ImageSegmenter

        return ImageSegmenter(backbone(), CLASSES, preprocessor=None, head_dim=512)

    def peer() -> Any:
        import transformers

        backbone_config = config(out_features=[f"stage{n}" for n in range(1, 5)])
        head = transformers.UperNetConfig(
            backbone_config=backbone_config,
            num_labels=CLASSES,
            auxiliary_in_channels=4 * backbone_config.embed_dim,
        )
        return transformers.UperNetForSemanticSegmentation(head)

    shape = (o.batch, o.image_size, o.image_size)
    return dense_case(o, task, np.random.default_rng(1).integers(0, CLASSES, shape), peer)


def detect(o: Options) -> Case:
    """RetinaNet on a ViT; no library that is installed here has a detector like it."""

    def task() -> Any:
        from mimzoo.models import ObjectDetector, ViTBackbone

        shape = (o.image_size, o.image_size, 3)
        return ObjectDetector(ViTBackbone.from_size(o.size, image_shape=shape), 80, None)

    corners = np.random.default_rng(1).uniform(0, o.image_size / 2, (o.batch, OBJECTS, 4))
    corners[..., 2:] += o.image_size / 4
    boxes = {
        "boxes": corners.astype("float32"),
        "labels": np.tile(np.arange(OBJECTS), (o.batch, 1)),
    }
    return dense_case(o, task, boxes, None)
