"""One step of a contender: a call that does it and waits for the result."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.device import torch_device

Step = Callable[[], None]


def keras_step(
    task: Any,
    inputs: Any,
    targets: Any = None,
    optimizer: Any = "auto",
    jit: bool = False,
    default_loss: bool = False,
) -> Step:
    """A training step of a Keras model, as `fit` runs it.

    Args:
        task: the model.
        inputs: of a batch.
        targets: likewise, if it takes any.
        optimizer: of `compile`.
        jit: compile on torch, too.
        default_loss: the model's own loss and metrics, not the cross-entropy of its logits.
    """
    import keras

    more: dict[str, Any] = {"jit_compile": _compiled(task, jit)}
    if targets is not None:
        if not default_loss:
            more["loss"] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        targets = keras.tree.map_structure(keras.ops.convert_to_tensor, targets)
    task.compile(optimizer, **more)
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)

    def step() -> None:
        values = keras.Model.train_on_batch(task, inputs, targets)
        keras.tree.map_structure(keras.ops.convert_to_numpy, values)

    def of_fit() -> None:
        # `train_on_batch` walks all layers before a step, which `fit` does once.
        if task.train_function is None:
            step()
        else:
            logs = task.train_function([(inputs, targets, None)])
            keras.ops.convert_to_numpy(logs["loss"])

    return of_fit if keras.config.backend() == "torch" else step


def _compiled(model: Any, jit: bool) -> bool | str:
    """The `jit_compile` of a model: on torch if asked for, on TensorFlow where it is faster.

    On CPUs XLA inside TensorFlow gains a tenth in float32; in bfloat16 it leaves the matrix units
    unused. Keras' own "auto" is XLA on JAX and, on CPUs, nowhere else.
    """
    import keras

    with_xla = keras.config.backend() == "tensorflow" and model.backbone.compute_dtype == "float32"
    return True if jit or with_xla else "auto"


def keras_inference(model: Any, images: np.ndarray, jit: bool = False) -> Step:
    """A forward pass of a Keras model, as `predict` runs it."""
    import keras

    model.compile(jit_compile=_compiled(model, jit))
    images = keras.ops.convert_to_tensor(images)

    def step() -> None:
        keras.Model.predict_on_batch(model, images)

    return step


def torch_step(model: Any, inputs: dict, options: Any, *, compiled: bool) -> Step:
    """A training step of a torch model whose output has or is the loss."""
    import torch

    model.to(torch_device()).train()
    fused = torch_device().type == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(), 1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=fused
    )
    run = torch.compile(model) if compiled else model
    inputs = _tensors(inputs)

    def step() -> None:
        optimizer.zero_grad()
        with _precision(options):
            output = run(**inputs)
        loss = getattr(output, "loss", output)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def torch_inference(model: Any, inputs: dict, options: Any, compiled: bool) -> Step:
    """A forward pass of a torch model."""
    import torch

    model.to(torch_device()).eval()
    run = torch.compile(model) if compiled else model
    inputs = _tensors(inputs)

    def step() -> None:
        with torch.inference_mode(), _precision(options):
            run(**inputs).logits.float().cpu().numpy()

    return step


def _tensors(inputs: dict) -> dict:
    import torch

    return {k: torch.as_tensor(v, device=torch_device()) for k, v in inputs.items()}


def _precision(options: Any) -> contextlib.AbstractContextManager:
    import torch

    if not options.bf16:
        return contextlib.nullcontext()
    return torch.autocast(torch_device().type, torch.bfloat16)
