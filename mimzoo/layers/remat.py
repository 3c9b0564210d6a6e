"""Recomputing activations in the backward pass instead of keeping them."""

from collections.abc import Callable, Sequence

import keras

from mimzoo.backend import Tensor


def call_block(
    forward: Callable[..., Tensor],
    tokens: Tensor,
    optional: Sequence[Tensor | None],
    remat: bool | None,
) -> Tensor:
    """`forward(tokens, *optional)`, rematerialised if `remat`.

    Args:
        forward: the body of a block.
        tokens: its input.
        optional: further arguments, each a tensor or None.
        remat: whether its activations are recomputed in the backward pass.
    """
    if not remat:
        return forward(tokens, *optional)
    # TensorFlow's recompute_grad takes tensors only, so None stays outside.
    given = [x for x in optional if x is not None]

    def with_tensors(tokens: Tensor, *tensors: Tensor) -> Tensor:
        rest = iter(tensors)
        return forward(tokens, *(None if x is None else next(rest) for x in optional))

    return keras.remat(with_tensors)(tokens, *given)
