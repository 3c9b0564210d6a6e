"""The part of a file beside the encoder of a segmenter: UPerNet's neck and heads."""

from typing import Any

from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.layout import Layout
from mimzoo.convert.names import UPerNetNames
from mimzoo.convert.table import Row, norm, row
from mimzoo.convert.transforms import ConvKernel
from mimzoo.models import ImageSegmenter, ViTBackbone
from mimzoo.tasks.segmentation.levels import FeaturePyramid

_ADE20K = 150  # classes


def build_segmenter(
    layout: Layout, backbone: Any, tensors: Tensors, hints: ConversionHints, image_converter: Any
) -> ImageSegmenter:
    """A segmenter with the heads of a file.

    Raises:
        ValueError: a grid of patches whose maps mmsegmentation rounds otherwise, or no
            `shorter_side` where the file does not show it.
    """
    names = layout.names.segmenter
    if isinstance(backbone, ViTBackbone) and any(side % 2 for side in backbone.grid):
        raise ValueError(
            f"{backbone.grid[0]}x{backbone.grid[1]} patches: mmsegmentation halves an odd number "
            "of them rounding down, mimzoo rounding up; give an image_size with even numbers."
        )
    cls = ImageSegmenter.for_backbone(type(backbone))
    first = f"{names.auxiliary}.convs.0.conv.weight"
    auxiliary_dim = tensors.shape(first)[0] if first in tensors else 0
    num_classes = tensors.shape(f"{names.decode}.conv_seg.weight")[0]
    return cls(
        backbone,
        num_classes,
        preprocessor=cls.preprocessor_cls(image_converter=image_converter),
        head_dim=tensors.shape(f"{names.decode}.bottleneck.conv.weight")[0],
        auxiliary_dim=auxiliary_dim,
        auxiliary_weight=0.4 if auxiliary_dim else 0.0,
        shorter_side=_shorter_side(hints, num_classes, min(backbone.image_shape[:2])),
    )


def _shorter_side(hints: ConversionHints, num_classes: int, window: int) -> int | None:
    """To what images are scaled before windows are cut: of ADE20K's models the window's side.

    All of mmsegmentation's configurations for ADE20K have it so (configs/_base_/datasets/ade20k.py
    and ade20k_640x640.py); those of other data sets do not.
    """
    found = hints.get("shorter_side", window if num_classes == _ADE20K else None, default=-1)
    if type(found) is not int or found < 0:
        raise ValueError(
            f"the file does not show to which shorter side images of its {num_classes} classes are "
            "scaled: give shorter_side=… or --set shorter_side=…, in pixels, as its configuration "
            "has it for tests; 0 for images that keep their size."
        )
    return found or None


def segmenter_rows(names: Any, model: ImageSegmenter) -> list[Row]:
    """The table of neck and heads.

    Raises:
        ValueError: a head that is not UPerNet's.
    """
    if model.head_kind != "upernet":
        raise ValueError(f"this layout is UPerNet's, the model has the head {model.head_kind!r}.")
    at, head = names.segmenter, model.head
    neck = _pyramid_rows if isinstance(model.neck, FeaturePyramid) else _norm_rows
    found = neck(at, model.neck)
    for number in range(len(head.pooled)):
        theirs = f"{at.decode}.psp_modules.{number}.1"
        found += _conv_norm(theirs, f"head.pooled.{number}")
    for number in range(len(head.laterals)):
        found += _conv_norm(f"{at.decode}.lateral_convs.{number}", f"head.laterals.{number}")
        found += _conv_norm(f"{at.decode}.fpn_convs.{number}", f"head.outputs.{number}")
    found += _conv_norm(f"{at.decode}.bottleneck", "head.bottleneck")
    found += _conv_norm(f"{at.decode}.fpn_bottleneck", "head.fuse")
    found += _conv(f"{at.decode}.conv_seg", "head.classify.conv")
    if head.auxiliary_layers:
        found += _conv_norm(f"{at.auxiliary}.convs.0", "head.auxiliary_layers.0")
        found += _conv(f"{at.auxiliary}.conv_seg", "head.auxiliary_layers.1.conv")
    return found


def _norm_rows(names: UPerNetNames, neck: Any) -> list[Row]:
    found = []
    for number in range(neck.count):
        found += norm(names.stage_norm.format(number), f"neck.norms.{number}")
    return found


def _pyramid_rows(names: UPerNetNames, neck: FeaturePyramid) -> list[Row]:
    found = []
    for number, power in enumerate(range(neck.first, 0, -1)):
        theirs, ours = names.upsampling[power - 1], f"neck.scalings.{number}"
        found += _conv(f"{theirs}.0", f"{ours}.0")
        if power == 2:
            found += _batch_norm(f"{theirs}.1", f"{ours}.1") + _conv(f"{theirs}.3", f"{ours}.3")
    return found


def _conv_norm(theirs: str, ours: str) -> list[Row]:
    convolution = row(f"{theirs}.conv.weight", f"{ours}.conv.kernel", ConvKernel())
    return [convolution, *_batch_norm(f"{theirs}.bn", f"{ours}.norm")]


def _conv(theirs: str, ours: str) -> list[Row]:
    kernel = row(f"{theirs}.weight", f"{ours}.kernel", ConvKernel())
    return [kernel, row(f"{theirs}.bias", f"{ours}.bias")]


def _batch_norm(theirs: str, ours: str) -> list[Row]:
    return [
        *norm(theirs, ours),
        row(f"{theirs}.running_mean", f"{ours}.moving_mean"),
        row(f"{theirs}.running_var", f"{ours}.moving_variance"),
    ]
