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
    """Forward and backward pass of a mimzoo task or classifier over a batch.

    A teacher's forward pass is not counted, nor what rematerialisation computes again.
    """
    method = {"MAE": mae_flops, "SimMIM": simmim_flops, "MixMIM": mixmim_flops}
    forward = method.get(type(task).__name__, classifier_flops)
    return 3 * forward(task) * batch_size


def classifier_flops(task: object) -> float:
    """Forward pass of an image classifier over one image."""
    backbone = task.backbone
    width = backbone.output_dim
    return backbone_flops(backbone) + 2 * width * task.num_classes


def backbone_flops(backbone: object) -> float:
    """Forward pass of a backbone over one image, no token left out."""
    if hasattr(backbone, "stages"):
        return hierarchy_flops(backbone)
    count = backbone.grid[0] * backbone.grid[1]
    patch = 2 * count * backbone.patch_size**2 * backbone.image_shape[-1] * backbone.embed_dim
    tokens = count + int(backbone.class_token)
    return patch + backbone.depth * block_flops(tokens, backbone.embed_dim, backbone.mlp_ratio)


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
    """Forward pass of a mimzoo SimMIM task over one image."""
    backbone = task.backbone
    pixels = backbone.image_shape[0] * backbone.image_shape[1] * backbone.image_shape[2]
    width = backbone.output_dim
    return backbone_flops(backbone) + 2 * width * pixels


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
