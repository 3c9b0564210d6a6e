"""The Swin family, MixMIM with it: configuration from shapes, and the table of names."""

import math
from typing import Any

import numpy as np

from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.names import SwinNames, block_rows, table_row
from mimzoo.convert.table import Row, linear, norm, row
from mimzoo.convert.transforms import (
    PatchKernel,
    PatchPositions,
    Transposed,
    Unfolded,
    UnfoldedKernel,
)
from mimzoo.convert.vit import is_sincos, mlp_ratio, qkv_bias


def configure(names: SwinNames, tensors: Tensors, hints: ConversionHints) -> dict:
    """Arguments of a SwinBackbone.

    A table of a stage has (2 w - 1)² rows of its window w. All released models are as large as
    makes their last stage one window; else the image size has to be given.
    """
    shared = _shared(names, tensors, hints)
    windows, heads = _tables(names, tensors, len(shared["depths"]))
    stride = shared["patch_size"] * 2 ** (len(windows) - 1)
    side = _side(names, tensors, shared["patch_size"], windows[0]) or stride * windows[-1]
    return {
        "image_shape": (*hints.image_size(side), shared.pop("channels")),
        "num_heads": heads,
        "window_size": windows[0],
        **shared,
    }


def configure_mixmim(names: SwinNames, tensors: Tensors, hints: ConversionHints) -> dict:
    """Arguments of a MixMIMBackbone: every stage has its window, positions show the image's size.

    Raises:
        ValueError: positions that are not the fixed ones, as in a Swin that learns them.
    """
    shared = _shared(names, tensors, hints)
    windows, heads = _tables(names, tensors, len(shared["depths"]))
    positions = names.prefix + names.positions
    patch = shared["patch_size"]
    height, width = hints.image_size(math.isqrt(tensors.shape(positions)[1]) * patch)
    if not is_sincos(tensors[positions][0], (height // patch, width // patch)):
        raise ValueError(
            f"{positions} is not MixMIM's fixed table of an image of {height}x{width}."
        )
    return {
        "image_shape": (height, width, shared.pop("channels")),
        "num_heads": heads,
        "window_size": windows,
        **shared,
    }


def _tables(names: SwinNames, tensors: Tensors, stages: int) -> tuple[tuple, tuple]:
    """Windows and heads of the stages, from their tables."""
    blocks = [_block(names, stage) for stage in range(stages)]
    tables = [tensors.shape(f"{block}.{names.inside.table}") for block in blocks]
    windows = tuple((math.isqrt(offsets) + 1) // 2 for offsets, _ in tables)
    return windows, tuple(heads for _, heads in tables)


def configure_v2(names: SwinNames, tensors: Tensors, hints: ConversionHints) -> dict:
    """Arguments of a SwinV2Backbone.

    Its bias has no table, so window and image size follow from derived buffers where the file
    has them, and have to be given otherwise.
    """
    shared = _shared(names, tensors, hints)
    depths, patch = shared["depths"], shared["patch_size"]
    first = [_block(names, stage) for stage in range(len(depths))]
    scales = [f"{block}.{names.inside.logit_scale}" for block in first]
    index = f"{first[0]}.attn.relative_position_index"
    shown = math.isqrt(tensors.shape(index)[0]) if index in tensors else None
    window = hints.get("window_size", shown)
    if shown not in (None, window):
        raise ValueError(f"the file has windows of {shown} tokens, not of {window}.")
    side = _side(names, tensors, patch, window)
    trained = _trained_windows(tensors, first)
    trained = hints.get("pretrained_window_sizes", trained, (0,) * len(depths))
    return {
        "image_shape": (*hints.image_size(side), shared.pop("channels")),
        "num_heads": tuple(tensors.shape(name)[0] for name in scales),
        "window_size": window,
        # transformers' default names four stages, however many there are.
        "pretrained_window_sizes": tuple(trained)[: len(depths)],
        "norm_interval": _norm_interval(names, tensors, depths),
        **shared,
    }


def _shared(names: SwinNames, tensors: Tensors, hints: ConversionHints) -> dict:
    prefix, inside = names.prefix, names.inside
    kernel = tensors.shape(f"{prefix}{names.patch}.weight")
    if len(kernel) != 4 or kernel[2] != kernel[3]:
        raise ValueError(f"{prefix}{names.patch}.weight has shape {kernel}: no square patches.")
    depths: list[int] = []
    while depth := tensors.count(
        f"{prefix}{names.block}.{inside.norm1}.weight".replace("{}", str(len(depths)), 1)
    ):
        depths.append(depth)
    first = _block(names, 0)
    return {
        "patch_size": kernel[2],
        "embed_dim": kernel[0],
        "channels": kernel[1],
        "depths": tuple(depths),
        "mlp_ratio": mlp_ratio(tensors.shape(f"{first}.{inside.fc1}.weight")[0], kernel[0]),
        "qkv_bias": qkv_bias(names, tensors, first),
        "final_norm": f"{prefix}{names.norm}.weight" in tensors,
        "layer_norm_epsilon": hints.get("layer_norm_epsilon", default=1e-5),
    }


def _block(names: SwinNames, stage: int, number: int = 0) -> str:
    return names.prefix + names.block.format(stage, number)


def _side(names: SwinNames, tensors: Tensors, patch: int, window: int | None) -> int | None:
    """Side of the image, from the mask of the shifted windows of stage 1: (windows, T, T)."""
    mask = f"{_block(names, 0, 1)}.attn_mask"
    if window is None or mask not in tensors:
        return None
    return patch * window * math.isqrt(tensors.shape(mask)[0])


def _trained_windows(tensors: Tensors, blocks: list[str]) -> tuple[int, ...] | None:
    """The windows that a Swin V2's biases were trained with, from the buffers of coordinates.

    The largest is log2(8 (w - 1) / (p - 1) + 1) / 3, p the wanted window.
    """
    found = []
    for block in blocks:
        name = f"{block}.attn.relative_coords_table"
        if name not in tensors:
            return None
        coordinates = tensors[name]
        window = (coordinates.shape[-2] + 1) // 2
        largest = float(np.max(coordinates))
        trained = 1 + round(8 * (window - 1) / (2 ** (3 * largest) - 1)) if largest > 0 else window
        found.append(0 if trained == window else trained)
    return tuple(found)


def _norm_interval(names: SwinNames, tensors: Tensors, depths: tuple[int, ...]) -> int:
    """After how many blocks of a stage a further LayerNorm stands; 0: there are none.

    Raises:
        ValueError: norms at other places.
    """
    having = {
        (stage, block)
        for stage, depth in enumerate(depths)
        for block in range(depth)
        if f"{_block(names, stage, block)}.{names.inside.extra_norm}.weight" in tensors
    }
    if not having:
        return 0
    interval = min(block for _, block in having) + 1
    wanted = {(s, b) for s, d in enumerate(depths) for b in range(interval - 1, d, interval)}
    if having != wanted:
        raise ValueError("the extra norms do not stand after every so many blocks of a stage.")
    return interval


def rows(names: SwinNames, backbone: Any) -> list[Row]:
    """The table of the encoder, of all three."""
    prefix, inside = names.prefix, names.inside
    patch = PatchKernel(backbone.patch_size)
    found = [
        row(f"{prefix}{names.patch}.weight", "backbone.patch_embed.projection.kernel", patch),
        row(f"{prefix}{names.patch}.bias", "backbone.patch_embed.projection.bias"),
        *norm(prefix + names.patch_norm, "backbone.patch_norm"),
    ]
    if backbone.positions is not None:
        positions = PatchPositions(backbone.grid)
        found.append(row(prefix + names.positions, "backbone.positions.table", positions))
    for stage, blocks in enumerate(backbone.stages):
        for number, block in enumerate(blocks):
            theirs, ours = _block(names, stage, number), f"backbone.stages.{stage}.{number}"
            found += block_rows(inside, theirs, ours, block)
            bias, path = block.attention.position_bias, f"{ours}.attention.position_bias"
            if hasattr(block.attention, "logit_scale"):
                found += _continuous(names, theirs, f"{ours}.attention")
            else:
                found.append(table_row(f"{theirs}.{inside.table}", path, bias))
            if f"{stage}_{number}" in backbone.extra_norms:
                path = f"backbone.extra_norms.{stage}_{number}"
                found += norm(f"{theirs}.{inside.extra_norm}", path)
    for stage, merging in enumerate(backbone.mergings):
        found += _merging(names, stage, merging)
    if backbone.norm is not None:
        found += norm(prefix + names.norm, "backbone.norm")
    return found


def _continuous(names: SwinNames, theirs: str, ours: str) -> list[Row]:
    network, bias = f"{theirs}.{names.inside.network}", f"{ours}.position_bias"
    return [
        row(f"{theirs}.{names.inside.logit_scale}", f"{ours}.logit_scale"),
        row(f"{network}.0.weight", f"{bias}.kernel1", Transposed()),
        row(f"{network}.0.bias", f"{bias}.bias1"),
        row(f"{network}.2.weight", f"{bias}.kernel2", Transposed()),
    ]


def _merging(names: SwinNames, stage: int, merging: Any) -> list[Row]:
    theirs = names.prefix + names.merging.format(stage + names.merging_stage)
    ours = f"backbone.mergings.{stage}"
    if not names.unfolded_merging:
        found = linear(f"{theirs}.reduction", f"{ours}.reduction", bias=False)
        return found + norm(f"{theirs}.norm", f"{ours}.norm")
    # A norm before the linear layer sees the four neighbours too.
    vector = Unfolded() if merging.norm_first else None
    return [
        row(f"{theirs}.reduction.weight", f"{ours}.reduction.kernel", UnfoldedKernel()),
        row(f"{theirs}.norm.weight", f"{ours}.norm.gamma", vector),
        row(f"{theirs}.norm.bias", f"{ours}.norm.beta", vector),
    ]
