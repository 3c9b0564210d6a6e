"""Products of float32 matrices by oneDNN, where torch would have them from a slower library."""

import functools
from collections.abc import Callable
from typing import Any

from mimzoo.backend.constant import Tensor

# Multiplications from which its faster rate outweighs its slower call.
ALONE, WITH_GRADIENT = 5_000_000, 150_000_000


@functools.cache
def on_amd() -> bool:
    """Whether torch computes on a processor of AMD, with oneDNN at hand.

    torch multiplies by MKL, which on AMD's reaches 0.85 of oneDNN's rate (Zen 4, AVX-512). What the
    two reach elsewhere was not measured: there the choice is torch's.
    """
    import torch

    return (
        torch.cpu.get_capabilities().get("cpu_name", "").startswith("AMD")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def suits(x: Tensor, kernel: Tensor) -> bool:
    """Whether `multiply` should compute x @ kernel: two large matrices of float32 on a CPU.

    Not where torch looks for more than a number and its gradient: a graph, which may be for
    another machine, a derivative of another kind, or a count of operations.
    """
    import torch

    if not on_amd() or type(x) is not torch.Tensor or x.device.type != "cpu":
        return False
    least = WITH_GRADIENT if _has_gradient(x, kernel) else ALONE
    return (
        x.dtype == kernel.dtype == torch.float32
        and x.numel() * kernel.shape[1] >= least
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def multiply(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ kernel + bias of float32 tensors of torch: (..., D), (D, E), (E,) -> (..., E)."""
    if _has_gradient(x, kernel, bias):
        return _with_gradient()(x, kernel, bias)
    return _alone(x, kernel, bias)


def _has_gradient(*tensors: Tensor | None) -> bool:
    import torch

    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _alone(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    import torch

    return torch.ops.mkldnn._linear_pointwise.default(x, kernel.t(), bias, "none", [], "")


@functools.cache
def _with_gradient() -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    import torch

    class Multiply(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
            return _alone(x, kernel, bias)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
            x, kernel, _ = inputs
            ctx.save_for_backward(x, kernel)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            x, kernel = ctx.saved_tensors
            to_x = to_kernel = to_bias = None
            if ctx.needs_input_grad[0]:
                to_x = multiply(gradient, kernel.t())
            x = x.reshape(-1, x.shape[-1])
            gradient = gradient.reshape(-1, gradient.shape[-1])
            if ctx.needs_input_grad[1]:
                # oneDNN turns its first matrix in memory, which pays for the smaller of the two.
                wide = gradient.shape[1] > x.shape[1]
                to_kernel = multiply(x.t(), gradient) if wide else x.t() @ gradient
            if ctx.needs_input_grad[2]:
                to_bias = gradient.sum(0)
            return to_x, to_kernel, to_bias

    return Multiply.apply
