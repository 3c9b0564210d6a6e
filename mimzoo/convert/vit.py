"""The ViT family: configuration from shapes, and the table of names."""

import math
from typing import Any

import numpy as np

from mimzoo.convert.files import Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.names import ViTNames, block_rows, table_row
from mimzoo.convert.table import Row, norm, row
from mimzoo.convert.transforms import OffsetTable, PatchKernel, Positions, UnusedClassRow
from mimzoo.layers.positions import sincos_table
from mimzoo.models.vit.sizes import VIT_SIZES

# Width -> heads of the published sizes, which no shape shows.
HEADS = {width: heads for width, _, heads, _ in VIT_SIZES.values()}


def configure(
    names: ViTNames,
    tensors: Tensors,
    hints: ConversionHints,
    pretrained_size: tuple[int, int] | None = None,
) -> dict:
    """Arguments of a ViTBackbone.

    Args:
        names: of the layout.
        tensors: of the file.
        hints: what no tensor shows.
        pretrained_size: height and width of the images that the table of positions is for, where
            it is resized; default: those of the model.

    Raises:
        ValueError: shapes that fit no ViT, or heads or image size that cannot be inferred.
    """
    prefix, inside = names.prefix, names.inside
    kernel = tensors.shape(f"{prefix}{names.patch}.weight")
    if len(kernel) != 4 or kernel[2] != kernel[3]:
        raise ValueError(f"{prefix}{names.patch}.weight has shape {kernel}: no square patches.")
    width, channels, patch, _ = kernel
    block = prefix + names.block
    first = block.format(0)
    own, shared = f"{first}.{inside.table}", prefix + names.shared_table
    bias = "shared" if shared in tensors else "per_block" if own in tensors else "none"
    positions = prefix + names.positions
    heads = tensors.shape(shared if bias == "shared" else own)[1] if bias != "none" else None
    if positions in tensors:
        patches = tensors.shape(positions)[1] - 1
    elif bias != "none":
        patches = (math.isqrt(tensors.shape(shared if bias == "shared" else own)[0] - 3) + 1) ** 2
        patches //= 4
    else:
        raise ValueError(f"there is neither {positions} nor a table of relative positions.")
    side = math.isqrt(patches) * patch
    height, image_width = pretrained_size or hints.image_size(
        side if (side // patch) ** 2 == patches else None
    )
    grid = height // patch, image_width // patch
    if grid[0] * grid[1] != patches:
        raise ValueError(
            f"the file has positions of {patches} patches, an image of {height}x{image_width} "
            f"has {grid[0] * grid[1]} of {patch} pixels: give another image_size."
        )
    fc1 = tensors.shape(f"{first}.{inside.fc1}.weight")
    return {
        "image_shape": (height, image_width, channels),
        "patch_size": patch,
        "embed_dim": width,
        "depth": tensors.count(f"{block}.{inside.norm1}.weight"),
        "num_heads": heads or hints.get("num_heads", default=HEADS.get(width)),
        "mlp_ratio": mlp_ratio(fc1[0], width),
        "class_token": prefix + names.class_token in tensors,
        "position_embedding": _positions(tensors, positions, grid),
        "relative_position_bias": bias,
        "qkv_bias": qkv_bias(names, tensors, first),
        "layer_scale_init": 0.1 if f"{first}.{inside.scale1}" in tensors else None,
        "final_norm": f"{prefix}{names.norm}.weight" in tensors,
        "layer_norm_epsilon": hints.get("layer_norm_epsilon", default=1e-6),
    }


def mlp_ratio(hidden: int, width: int) -> float:
    """The ratio that int(width x ratio) makes `hidden` of, whatever rounding does to a third."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def qkv_bias(names: Any, tensors: Tensors, block: str) -> str:
    """Which of queries, keys and values have a bias: "qkv", "qv" or "none"."""
    inside = names.inside
    if isinstance(inside.qkv, str):
        if f"{block}.{inside.qkv}.bias" in tensors:
            return "qkv"
        return "qv" if f"{block}.{inside.query_bias}" in tensors else "none"
    query, key, _ = (f"{block}.{name}.bias" in tensors for name in inside.qkv)
    return "qkv" if key else "qv" if query else "none"


def _positions(tensors: Tensors, name: str, grid: tuple[int, int]) -> str:
    """Fixed, learned or no positions: fixed ones are recognised by their values."""
    if name not in tensors:
        return "none"
    table = tensors[name]
    fixed = not table[0, 0].any() and is_sincos(table[0, 1:], grid)
    return "sincos" if fixed else "learned"


def is_sincos(table: np.ndarray, grid: tuple[int, int]) -> bool:
    """Whether a table (N, D) of positions is the fixed one of MAE and MixMIM.

    Of mmpretrain's own models, too, where the first half of D is the row and not the column
    (models/utils/position_encoding.py, `build_2d_sincos_position_embedding`).
    """
    if table.shape[-1] % 4 or len(table) != grid[0] * grid[1]:
        return False
    fixed = sincos_table(grid, table.shape[-1])
    rows_first = sincos_table(grid[::-1], table.shape[-1]).swapaxes(0, 1)
    # The official code computes in float64 on the way; half precision rounds to a hundredth.
    tolerance = 1e-5 if table.dtype == np.float32 else 1e-2
    table = table.astype("float32").reshape(fixed.shape)
    return any(np.allclose(table, known, atol=tolerance) for known in (fixed, rows_first))


def _position_row(theirs: str, backbone: Any) -> Row:
    paths = ["backbone.positions.table"]
    if not backbone.class_token:
        return row(theirs, paths, UnusedClassRow(backbone.grid))
    learned = backbone.position_embedding == "learned"
    paths += ["backbone.class_token_layer.token_position"] * learned
    return row(theirs, paths, Positions(backbone.grid, learned))


def _decomposed_rows(names: ViTNames, theirs: str, ours: str, block: Any) -> list[Row]:
    """Empty where the model has no decomposed positions, or the layout no names for them."""
    positions, inside = block.attention.relative_positions, names.inside
    if positions is None or not inside.row_positions:
        return []
    return [
        row(f"{theirs}.{name}", f"{ours}.{table}", OffsetTable(side))
        for name, table, side in zip(
            (inside.row_positions, inside.column_positions),
            ("row_table", "column_table"),
            positions.grid,
            strict=True,
        )
    ]


def rows(names: ViTNames, backbone: Any) -> list[Row]:
    """The table of the encoder.

    Raises:
        ValueError: a backbone that these names cannot describe.
    """
    if backbone.class_token != bool(names.class_token):
        layout, model = ("no", "one") if backbone.class_token else ("a", "none")
        raise ValueError(f"this layout has {layout} class token, the model has {model}.")
    prefix = names.prefix
    patch = PatchKernel(backbone.patch_size)
    found = [
        row(f"{prefix}{names.patch}.weight", "backbone.patch_embed.projection.kernel", patch),
        row(f"{prefix}{names.patch}.bias", "backbone.patch_embed.projection.bias"),
    ]
    if backbone.class_token:
        found.append(row(prefix + names.class_token, "backbone.class_token_layer.token"))
    if backbone.positions is not None:
        found.append(_position_row(prefix + names.positions, backbone))
    if backbone.shared_bias is not None:
        shared = prefix + names.shared_table
        found.append(table_row(shared, "backbone.shared_bias", backbone.shared_bias))
    for number, block in enumerate(backbone.blocks):
        theirs, ours = prefix + names.block.format(number), f"backbone.blocks.{number}"
        found += block_rows(names.inside, theirs, ours, block)
        bias = block.attention.relative_position_bias
        if bias is not None:
            path = f"{ours}.attention.relative_position_bias"
            found.append(table_row(f"{theirs}.{names.inside.table}", path, bias))
        found += _decomposed_rows(names, theirs, f"{ours}.attention.relative_positions", block)
    if backbone.norm is not None:
        found += norm(prefix + names.norm, "backbone.norm")
    return found
