"""Floating-point operations of a forward pass over one image, by formula.

A multiplication and an addition count as two. Only matrix products count; the backward pass
costs twice the forward one. A task says what its own step costs: `forward_flops`.
"""


def block_flops(tokens: int, dim: int, mlp_ratio: float = 4.0) -> float:
    """One transformer block."""
    linear = 2 * tokens * dim * dim * (4 + 2 * mlp_ratio)
    attention = 2 * 2 * tokens * tokens * dim
    return linear + attention


def windowed_flops(
    tokens: int, counts: tuple[int, int], size: int, dim: int, mlp_ratio: float = 4.0
) -> float:
    """A block that attends inside so many windows, whose padding only attention sees."""
    windows = counts[0] * counts[1]
    attention = windows * block_flops(size**2, dim, mlp_ratio=0.0)
    return attention + 2 * tokens * dim * dim * 2 * mlp_ratio


def backbone_flops(backbone: object, tokens: int | None = None) -> float:
    """A backbone.

    Args:
        backbone: of mimzoo.
        tokens: patches that its blocks see, of a ViT; default: all.
    """
    if hasattr(backbone, "stages"):
        return _hierarchy_flops(backbone)
    count = backbone.grid[0] * backbone.grid[1]
    patch = 2 * count * backbone.patch_size**2 * backbone.image_shape[-1] * backbone.embed_dim
    tokens = (count if tokens is None else tokens) + int(backbone.class_token)
    dim, ratio = backbone.embed_dim, backbone.mlp_ratio
    total = patch
    for block in backbone.blocks:
        counts = (1, 1) if block.windows is None else block.windows.counts
        if block.windows is None:
            total += block_flops(tokens, dim, ratio)
        else:
            total += windowed_flops(tokens, counts, block.windows.size, dim, ratio)
        positions = block.attention.relative_positions
        if positions is not None:
            total += counts[0] * counts[1] * _decomposed_flops(positions, backbone.num_heads)
    return total


def _decomposed_flops(positions: object, heads: int) -> float:
    """Products of queries and tables in one window, and what their channels add to the logits."""
    (rows, cols), channels = positions.grid, positions.places.shape[-1]
    return 2 * rows * cols * heads * ((rows + cols) * positions.head_dim + rows * cols * channels)


def _hierarchy_flops(backbone: object) -> float:
    dim, channels = backbone.embed_dim, backbone.image_shape[-1]
    count = backbone.grid[0] * backbone.grid[1]
    total = 2 * count * backbone.patch_size**2 * channels * dim
    for stage, blocks in enumerate(backbone.stages):
        for block in blocks:
            windows = block.attention.windows
            number = windows.counts[0] * windows.counts[1]
            total += number * block_flops(windows.size**2, dim, backbone.mlp_ratio)
        if stage < len(backbone.stages) - 1:
            rows, cols = backbone.stage_grids[stage + 1]
            total += 2 * rows * cols * 4 * dim * 2 * dim
            dim *= 2
    return total
