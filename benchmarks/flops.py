"""Floating-point operations of a MAE training step, by formula.

A multiplication and an addition count as two. Only matrix products count; the backward pass
costs twice the forward one.
"""


def block_flops(tokens: int, dim: int, mlp_ratio: float = 4.0) -> float:
    """Forward pass of one transformer block over one image."""
    linear = 2 * tokens * dim * dim * (4 + 2 * mlp_ratio)
    attention = 2 * 2 * tokens * tokens * dim
    return linear + attention


def mae_step_flops(task: object, batch_size: int) -> float:
    """Forward and backward pass of a mimzoo MAE task on ViTBackbone."""
    backbone, decoder = task.backbone, task.decoder
    count = backbone.grid[0] * backbone.grid[1]
    first = int(backbone.class_token)
    patch_dim = backbone.patch_size**2 * backbone.image_shape[-1]
    visible = task.num_visible
    forward = (
        2 * count * patch_dim * backbone.embed_dim
        + backbone.depth * block_flops(visible + first, backbone.embed_dim, backbone.mlp_ratio)
        + 2 * (visible + first) * backbone.embed_dim * decoder.embed_dim
        + decoder.depth * block_flops(count + first, decoder.embed_dim, decoder.mlp_ratio)
        + 2 * count * decoder.embed_dim * patch_dim
    )
    return 3 * forward * batch_size


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
