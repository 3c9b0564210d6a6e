"""Rematerialization (gradient checkpointing) by policies with names."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from mimzoo.backend.constant import Tensor

DOTS = "dots_with_no_batch_dims_saveable"
POLICIES = (False, True, "full", DOTS)


def check_remat(remat: bool | str) -> bool | str:
    """`remat`, if it is a policy.

    Raises:
        ValueError: it is none.
    """
    if remat not in POLICIES:
        raise ValueError(f"remat must be one of {POLICIES}, got {remat!r}.")
    return remat


def recomputed(function: Callable[..., Tensor], remat: bool | str) -> Callable[..., Tensor]:
    """`function`, whose results in between are recomputed in the backward pass.

    Args:
        function: takes tensors and None, gives a tensor, and draws no random numbers: it would
            draw others when it runs again.
        remat: False: nothing is recomputed. True or "full": everything, as by `keras.remat`.
            "dots_with_no_batch_dims_saveable" (the name is JAX's): everything but products of
            tokens and weights, whose results are kept. Attention is recomputed.

    Raises:
        ValueError: when it is called on TensorFlow, which has no policies, with one.
    """
    if not remat:
        return function
    backend = keras.config.backend()
    if backend == "tensorflow":
        return functools.partial(_on_tensorflow, function, remat)
    if backend == "jax":
        import jax

        # A function of its own: JAX would answer for a known one with the weights of then.
        policy = getattr(jax.checkpoint_policies, DOTS) if remat == DOTS else None
        return jax.checkpoint(lambda *given: function(*given), policy=policy)
    if remat != DOTS:
        return keras.remat(function)
    from torch.utils.checkpoint import checkpoint

    return functools.partial(checkpoint, function, use_reentrant=False, context_fn=_torch_contexts)


def _torch_contexts() -> tuple:
    """Of a forward pass that keeps products, and of the one that takes them again."""
    import torch
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    # Products of attention are batched: bmm, or a fused kernel.
    return create_selective_checkpoint_contexts(
        [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]
    )


def _on_tensorflow(function: Callable[..., Tensor], remat: bool | str, *given: Any) -> Tensor:
    if remat == DOTS:
        raise ValueError(
            f"TensorFlow has no rematerialization policies, so remat={DOTS!r} works on JAX and "
            "torch only: use remat=True, which recomputes everything, or remat=False."
        )

    # recompute_grad takes tensors only, so None stays outside.
    def with_tensors(*tensors: Tensor) -> Tensor:
        rest = iter(tensors)
        return function(*(None if x is None else next(rest) for x in given))

    return keras.remat(with_tensors)(*(x for x in given if x is not None))
