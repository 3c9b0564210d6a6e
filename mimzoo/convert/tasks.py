"""The part of a file beside the encoder: a classifier's head, or a MIM method's decoder.

That of a segmenter is in `segmenters.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import DecoderNames, block_rows
from mimzoo.convert.segmenters import build_segmenter, segmenter_rows
from mimzoo.convert.table import Row, linear, norm, row
from mimzoo.convert.transforms import PatchPositions, Positions, Shuffled, ShuffledKernel
from mimzoo.convert.vit import mlp_ratio
from mimzoo.data.normalize import IMAGENET_MEAN, IMAGENET_STD
from mimzoo.models import Backbone, ImageSegmenter
from mimzoo.pretraining import (
    MAE,
    MAEDecoder,
    MixMasking,
    MixMIM,
    MixMIMDecoder,
    PixelTarget,
    RandomMasking,
    SimMIM,
    SlidingWindowTarget,
)
from mimzoo.pretraining.task import MIMPreprocessor
from mimzoo.tasks import ImageClassifier
from mimzoo.tasks.preprocessing import ImageConverter


class Task(NamedTuple):
    """How a kind of model is made, and its part of the table."""

    cls: type
    build: Callable
    rows: Callable


def converter(backbone: Any, hints: ConversionHints) -> Any:
    """The image converter of a backbone, with the file's mean and standard deviation."""
    cls = ImageConverter.for_backbone(type(backbone))
    mean, std = hints.get("mean", default=IMAGENET_MEAN), hints.get("std", default=IMAGENET_STD)
    return cls(image_size=backbone.image_shape[:2], mean=mean, std=std)


def _classifier(layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints) -> Any:
    cls = ImageClassifier.for_backbone(type(backbone))
    classes = tensors.shape(f"{layout.names.head}.weight")[0]
    return cls(
        backbone,
        classes,
        preprocessor=cls.preprocessor_cls(image_converter=converter(backbone, hints)),
        pooling=layout.pooling,
        # No file says; all released files with 1,000 outputs were trained on ImageNet-1K.
        class_names="imagenet" if classes == 1000 else None,
    )


def _classifier_rows(names: Any, model: Any) -> list[Row]:
    rows = linear(names.head, "output_dense")
    return rows if model.head_norm is None else rows + norm(names.head_norm, "head_norm")


# Width -> heads of the published decoders (models_mae.py, models_mixmim.py).
_DECODER_HEADS = {512: 16}


def _decoder(
    cls: type, layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints
) -> Any:
    names = layout.names.decoder
    width = tensors.shape(f"{names.embed}.weight")[0]
    first = names.block.format(0)
    return cls(
        width,
        tensors.count(f"{names.block}.{names.inside.norm1}.weight"),
        hints.get("decoder_num_heads", default=_DECODER_HEADS.get(width)),
        mlp_ratio(tensors.shape(f"{first}.{names.inside.fc1}.weight")[0], width),
        hints.get("decoder_layer_norm_epsilon", default=backbone.layer_norm_epsilon),
        dtype=backbone.dtype_policy,
        name="decoder",
    )


def _mae(layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints) -> Any:
    return MAE(
        backbone,
        RandomMasking(hints.get("mask_ratio", default=0.75)),
        _decoder(MAEDecoder, layout, backbone, tensors, hints),
        PixelTarget(normalize=hints.get("norm_pix_loss", default=True)),
        MIMPreprocessor(converter(backbone, hints)),
    )


def _mixmim(layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints) -> Any:
    return MixMIM(
        backbone,
        MixMasking(hints.get("mask_ratio", default=0.5), mask_patch_size=backbone.stride),
        _decoder(MixMIMDecoder, layout, backbone, tensors, hints),
        PixelTarget(normalize=hints.get("norm_pix_loss", default=True)),
        preprocessor=MIMPreprocessor(converter(backbone, hints)),
    )


def _mae_rows(names: Any, task: Any) -> list[Row]:
    if not task.decoder.class_token:
        raise ValueError("MAE's decoder has a class token, the model has none.")
    return _decoder_rows(names.decoder, task.decoder, Positions(task.backbone.grid))


def _mixmim_rows(names: Any, task: Any) -> list[Row]:
    positions = PatchPositions(task.backbone.stage_grids[-1])
    return _decoder_rows(names.decoder, task.decoder, positions)


def _decoder_rows(names: DecoderNames, decoder: Any, positions: Any) -> list[Row]:
    rows = [
        *linear(names.embed, "decoder.embed"),
        row(names.positions, "decoder.positions.table", positions),
        row(names.mask_token, "decoder.mask_token"),
    ]
    for number, block in enumerate(decoder.blocks):
        theirs = names.block.format(number)
        rows += block_rows(names.inside, theirs, f"decoder.blocks.{number}", block)
    rows += norm(names.norm, "decoder.norm")
    return rows + linear(names.prediction, "decoder.prediction")


def _simmim(layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints) -> Any:
    window = layout.target_window
    return SimMIM(
        backbone,
        RandomMasking(
            hints.get("mask_ratio", default=0.6),
            mask_patch_size=hints.get("mask_patch_size", default=32),
        ),
        target=SlidingWindowTarget(window) if window else PixelTarget(False, "l1"),
        preprocessor=MIMPreprocessor(converter(backbone, hints)),
    )


def _simmim_rows(names: Any, task: Any) -> list[Row]:
    stride = task.backbone.stride
    return [
        row(names.prefix + names.mask_token, "mask_token.token"),
        row(f"{names.pixels}.weight", "decoder.prediction.kernel", ShuffledKernel(stride)),
        row(f"{names.pixels}.bias", "decoder.prediction.bias", Shuffled(stride)),
    ]


def _segmenter(layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints) -> Any:
    return build_segmenter(layout, backbone, tensors, hints, converter(backbone, hints))


TASKS = {
    "backbone": Task(Backbone, lambda layout, backbone, *_: backbone, lambda *_: []),
    "classifier": Task(ImageClassifier, _classifier, _classifier_rows),
    "segmenter": Task(ImageSegmenter, _segmenter, segmenter_rows),
    "mae": Task(MAE, _mae, _mae_rows),
    "simmim": Task(SimMIM, _simmim, _simmim_rows),
    "mixmim": Task(MixMIM, _mixmim, _mixmim_rows),
}


def build(layout: Layout, tensors: Tensors, hints: ConversionHints) -> Any:
    """A new model with the shapes of a file: a task, or a backbone if there is no more.

    Raises:
        ValueError: shapes that fit no model, or a setting that cannot be inferred.
    """
    config = layout.configure(layout.names, tensors, hints)
    backbone = layout.backbone(**config, dtype="float32", name="backbone")
    return TASKS[layout.task].build(layout, backbone, tensors, hints)


def table(layout: Layout, model: Any) -> list[Row]:
    """The whole table of a layout for a model."""
    encoder = layout.rows(layout.names, getattr(model, "backbone", model))
    return encoder + TASKS[layout.task].rows(layout.names, model)
