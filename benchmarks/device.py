"""The device that steps run on: the first GPU if there is one, else the CPU."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# JAX and TensorFlow would each take all of the GPU's memory, of which the others need some.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # A process keeps the memory that a step gave back, and takes large pages where the system gives
    # them on demand. By default a step takes its memory anew, page by page, and what a page costs
    # depends on the machine's past: on a virtual one up to a fifth of a step, and as much noise.
    # For all contenders alike.
    "GLIBC_TUNABLES": ":".join(
        (
            "glibc.malloc.trim_threshold=34359738368",
            "glibc.malloc.mmap_max=0",
            "glibc.malloc.hugetlb=1",
        )
    ),
}


def torch_device() -> Any:
    """Where torch's peers run, which has to be where ours do."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device() -> None:
    """Raises if torch has a GPU and the backend of Keras has none, or the other way round."""
    import keras

    backend = keras.config.backend()
    if backend == "torch":
        return
    if backend == "jax":
        import jax

        on_gpu = jax.default_backend() == "gpu"
    else:
        import tensorflow as tf

        on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if on_gpu != (torch_device().type == "cuda"):
        kinds = ("a GPU", "the CPU") if on_gpu else ("the CPU", "a GPU")
        raise SystemExit(
            f"{backend} runs on {kinds[0]} and torch on {kinds[1]}, so their steps cannot be "
            "compared: install both with or without CUDA, or set CUDA_VISIBLE_DEVICES=-1."
        )


class PeakMemory:
    """The most bytes taken since this was made: of the GPU's allocator, else of the process.

    Args:
        of_torch: whether what is measured is torch's, whatever the backend of Keras.
    """

    def __init__(self, of_torch: bool) -> None:
        import keras

        self.kind = "torch" if of_torch else keras.config.backend()
        self.on_gpu = torch_device().type == "cuda"
        self.before = 0
        if not self.on_gpu:
            self.forget_peak()
            self.before = _peak_resident()

    def forget_peak(self) -> None:
        """From now on counts the peak anew, except in JAX's and TensorFlow's memory of a GPU."""
        if not self.on_gpu:
            # Linux only.
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        elif self.kind == "torch":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def bytes(self) -> int:
        """Until now."""
        if not self.on_gpu:
            return _peak_resident() - self.before
        if self.kind == "torch":
            import torch

            return torch.cuda.max_memory_allocated()
        if self.kind == "jax":
            import jax

            return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def _peak_resident() -> int:
    """The most bytes of memory that this process had, since that was last forgotten."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def child_environment(backend: str) -> dict[str, str]:
    """Of a process that measures on a backend."""
    return {**os.environ, **ENVIRONMENT, "KERAS_BACKEND": backend}


def matrix_peak(bf16: bool, rounds: int = 5) -> float:
    """FLOP a second of a large matrix product on this machine, by torch, best of a few."""
    import time

    import torch

    device = torch_device()
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 2048
    dtype = torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(rounds + 1):
        start = time.perf_counter()
        torch.mm(a, b)
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def kernel_seconds(step: Callable[[], None]) -> float | None:
    """Seconds that the device computed in a step, by torch's profiler; None where it sees nothing.

    It does not see kernels of other libraries on CPUs.
    """
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch_device().type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        step()
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return sum(getattr(event, name) for event in seen.key_averages()) / 1e6 or None
