"""Floating-point operations of a training step, by formula.

A multiplication and an addition count as two. Only matrix products count; the backward pass
costs twice the forward one.
"""


def block_flops(tokens: int, dim: int, mlp_ratio: float = 4.0) -> float:
    """Forward pass of one transformer block over one image."""
    linear = 2 * tokens * dim * dim * (4 + 2 * mlp_ratio)
    attention = 2 * 2 * tokens * tokens * dim
    return linear + attention


def step_flops(task: object, batch_size: int) -> float:
    """Forward and backward pass of a mimzoo task over a batch."""
    method = {"MAE": mae_flops, "SimMIM": simmim_flops, "MixMIM": mixmim_flops}
    return 3 * method[type(task).__name__](task) * batch_size


def mae_flops(task: object) -> float:
    """Forward pass of a mimzoo MAE task on ViTBackbone over one image."""
    backbone, decoder = task.backbone, task.decoder
    count = backbone.grid[0] * backbone.grid[1]
    first = int(backbone.class_token)
    patch_dim = backbone.patch_size**2 * backbone.image_shape[-1]
    visible = task.num_visible
    return (
        2 * count * patch_dim * backbone.embed_dim
        + backbone.depth * block_flops(visible + first, backbone.embed_dim, backbone.mlp_ratio)
        + 2 * (visible + first) * backbone.embed_dim * decoder.embed_dim
        + decoder.depth * block_flops(count + first, decoder.embed_dim, decoder.mlp_ratio)
        + 2 * count * decoder.embed_dim * patch_dim
    )


def simmim_flops(task: object) -> float:
    """Forward pass of a mimzoo SimMIM task on Swin, Swin V2 or MixMIM's backbone over one image."""
    backbone = task.backbone
    rows, cols = backbone.stage_grids[-1]
    numbers = backbone.stride**2 * backbone.image_shape[-1]
    return hierarchy_flops(backbone) + 2 * rows * cols * backbone.output_dim * numbers


def mixmim_flops(task: object) -> float:
    """Forward pass of a mimzoo MixMIM task over one image, which is decoded in two halves."""
    backbone, decoder = task.backbone, task.decoder
    count = backbone.stage_grids[-1][0] * backbone.stage_grids[-1][1]
    numbers = backbone.stride**2 * backbone.image_shape[-1]
    return (
        hierarchy_flops(backbone)
        + 2 * count * backbone.output_dim * decoder.embed_dim
        + 2 * decoder.depth * block_flops(count, decoder.embed_dim, decoder.mlp_ratio)
        + 2 * count * decoder.embed_dim * numbers
    )


def hierarchy_flops(backbone: object) -> float:
    """Forward pass of a backbone with stages over one image."""
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


def matmul_flops_per_second(step: object) -> float:
    """The rate of a (4096, 1024) x (1024, 1024) product with the backend's own matmul."""
    import numpy as np

    from benchmarks.side_by_side import interleave

    a, b = (
        np.random.default_rng(0).normal(size=s).astype("float32")
        for s in ((4096, 1024), (1024, 1024))
    )
    timing = interleave({"matmul": lambda: step(a, b)}, rounds=7)[0]
    return 2 * 4096 * 1024 * 1024 / timing.median
