"""Layer-wise learning-rate decay: which layer of a backbone trains at which share of the rate.

The rules are lists of (regex, number) over `variable.path`, read from the top: the first regex
that matches wins.
"""

from collections.abc import Sequence


def vit_layer_decay_scales(depth: int, layer_decay: float) -> list[tuple[str, float]]:
    """Layer-wise learning-rate decay of a plain vision transformer.

    Layer 0 is the patch embedding, the class token and the positions; block k is layer k + 1; the
    rest (final norm, head) is layer `depth + 1`. A layer's multiplier is
    `layer_decay ** (depth + 1 - layer)`. Source: MAE, util/lr_decay.py.

    Args:
        depth: number of transformer blocks, named `block_0` ... `block_{depth - 1}`.
        layer_decay: decay per layer, in (0, 1]. 1 gives every layer the full rate.

    Returns:
        `depth + 2` pairs (regex over `variable.path`, learning-rate multiplier).

    Raises:
        ValueError: `depth` is not positive, or `layer_decay` is not in (0, 1].
    """
    if depth < 1:
        raise ValueError(f"depth must be a positive integer, got {depth!r}.")
    check_layer_decay(layer_decay)
    first = (r"(^|/)(patch_embed|class_token|positions)(/|$)", layer_decay ** (depth + 1))
    blocks = [(rf"(^|/)block_{k}(/|$)", layer_decay ** (depth - k)) for k in range(depth)]
    return [first, *blocks, (r".*", 1.0)]


def swin_layer_decay_scales(depths: Sequence[int], layer_decay: float) -> list[tuple[str, float]]:
    """Layer-wise learning-rate decay of Swin and Swin V2.

    Layer 0 is the patch embedding; block k, counted over all stages, is layer k + 1; a patch
    merging belongs to the last block before it; the rest (final norm, head) is the layer after the
    last block. A layer's multiplier is `layer_decay ** (number of blocks + 1 - layer)`. Source:
    SimMIM, optimizer.py.

    Args:
        depths: blocks of each stage, named `stage_{s}_block_{b}`.
        layer_decay: decay per layer, in (0, 1]. 1 gives every layer the full rate.

    Returns:
        Pairs (regex over `variable.path`, learning-rate multiplier).

    Raises:
        ValueError: no blocks, or `layer_decay` is not in (0, 1].
    """
    return _stage_scales(depths, layer_decay, merging=0, rest=1)


def mixmim_layer_decay_scales(depths: Sequence[int], layer_decay: float) -> list[tuple[str, float]]:
    """Layer-wise learning-rate decay of MixMIM.

    As `swin_layer_decay_scales`, but that a patch merging belongs to the first block after it,
    and the rest (final norm, head) to the last block, so that the head trains at `layer_decay`
    times the full rate. Source: MixMIM, util/lr_decay.py (the latter looks like a slip; the
    published results were made with it).

    Args:
        depths, layer_decay: see swin_layer_decay_scales.

    Returns:
        Pairs (regex over `variable.path`, learning-rate multiplier).

    Raises:
        ValueError: see swin_layer_decay_scales.
    """
    return _stage_scales(depths, layer_decay, merging=1, rest=0)


def _stage_scales(
    depths: Sequence[int], layer_decay: float, merging: int, rest: int
) -> list[tuple[str, float]]:
    """`merging` and `rest`: layers above the last block before them."""
    blocks = sum(depths)
    if not blocks:
        raise ValueError(f"depths must name at least one block, got {tuple(depths)}.")
    check_layer_decay(layer_decay)

    def scale(layer: int) -> float:
        return layer_decay ** (blocks + 1 - layer)

    scales = [(r"(^|/)patch_(embed|norm)(/|$)", scale(0))]
    layer = 0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            layer += 1
            scales.append((rf"(^|/)stage_{stage}_block_{block}(_norm)?(/|$)", scale(layer)))
        if stage < len(depths) - 1:
            scales.append((rf"(^|/)stage_{stage}_merging(/|$)", scale(layer + merging)))
    return [*scales, (r".*", scale(blocks + rest))]


def check_layer_decay(layer_decay: float) -> None:
    """Raise a ValueError unless `layer_decay` is in (0, 1]."""
    if not 0.0 < layer_decay <= 1.0:
        raise ValueError(
            f"layer_decay must lie in (0, 1], got {layer_decay!r}; 1.0 trains every layer at the "
            "full rate."
        )
