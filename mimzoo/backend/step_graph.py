"""torch on CUDA: a whole training step as one CUDA graph, so that the GPU never waits for Python.

Keras' step of a ViT-L starts four thousand kernels from Python, which takes longer than they run.
So a step runs a few times as it is, is captured, and from there on replayed, with each batch copied
to where the captured one lay. As on JAX and TensorFlow, which trace the step, Python inside of a
step runs only while that is made.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from mimzoo.backend.constant import Tensor

logger = logging.getLogger("mimzoo")


class StepGraph:
    """A training step on batches of a few forms, each captured after three steps.

    It runs as it is while a layer has hooks, and always if it reads what the device computes.

    Args:
        model: what is trained, built.
        step: the batch -> a dictionary of scalars.
    """

    def __init__(self, model: keras.Model, step: Callable[[Any], dict]):
        import torch

        self.model, self.step = model, step
        self.device = model.variables[0]._value.device.type
        self.layers = list(model._flatten_layers())
        # Autograd adds up gradients on the stream that met a weight first.
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()
        self.forms: dict[tuple, _Form] = {}
        self.weights: list[tuple] = []
        self.refused = False

    def __call__(self, batch: Any) -> dict:
        """A step, and the logs of Keras."""
        if self.refused or has_hooks(self.layers):
            return self.step(batch)
        if any(v._value is not tensor or v.trainable != t for v, tensor, t in self.weights):
            self.forms, self.weights = {}, []
        leaves = keras.tree.flatten(batch)
        key = tuple(map(_form, leaves))
        form = self.forms.setdefault(key, _Form(self.device))
        if form.graph is None:
            batch = keras.tree.pack_sequence_as(batch, [*map(_on_device, leaves)])
            try:
                return self._prepare(form, batch)
            except _Refusal as reason:
                logger.warning("training steps start one kernel after another: %s", reason)
                self.refused = True
                return reason.logs if reason.logs is not None else self.step(batch)
        return form.replay(leaves)

    def _prepare(self, form: "_Form", batch: Any) -> dict:
        """The first step builds, the second keeps what it takes, the third is watched."""
        import torch

        form.steps += 1
        if form.steps > 3:
            self._capture(form, batch)
            self.weights = [(v, v._value, v.trainable) for v in self.model.variables]
            return form.replay(keras.tree.flatten(batch))
        values, current = form.values, torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            if form.steps == 1:
                logs = self.step(batch)
            elif form.steps == 2:
                with values.kept():
                    logs = self.step(batch)
            else:
                with values.given(), _syncs() as found:
                    logs = self.step(batch)
        current.wait_stream(self.stream)
        if form.steps == 3 and (found or values.changed):
            raise _Refusal(found[0] if found else "Python changes a number in it", logs)
        return logs

    def _capture(self, form: "_Form", batch: Any) -> None:
        import torch

        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        context = torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        )
        try:
            with form.values.given(), context:
                form.logs = self.step(batch)
        except Exception as error:
            torch.cuda.set_stream(current)
            raise _Refusal(str(error).split("\n")[0]) from error
        form.graph, form.batch = graph, keras.tree.flatten(batch)


class _Form:
    """What is known of steps on batches of a form."""

    def __init__(self, device: str) -> None:
        self.steps, self.values, self.graph = 0, HostValues(device), None

    def replay(self, leaves: list) -> dict:
        """The captured step on another batch."""
        for own, new in zip(self.batch, leaves, strict=True):
            if own is not new and hasattr(own, "copy_"):
                own.copy_(_pinned(new), non_blocking=True)
        self.graph.replay()
        # The next replay writes over them.
        return keras.tree.map_structure(
            lambda v: v.clone() if hasattr(v, "clone") else v, self.logs
        )


class _Refusal(Exception):
    """Why a step is not captured, and its logs if it was done."""

    def __init__(self, reason: str, logs: dict | None = None):
        super().__init__(reason)
        self.logs = logs


class HostValues:
    """The tensors that a step makes of Python's numbers: kept in one run, given in the next.

    No CUDA graph can hold a copy from the host's memory, and Keras makes a dozen in a step.

    Args:
        device: type of the device of these tensors; those of others are made as ever.
    """

    def __init__(self, device: str):
        self.device, self.known, self.changed = device, [], False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A run of the step whose tensors are kept."""
        self.known = []

        def make(usual: Callable[[], Tensor], data: Any) -> Tensor:
            tensor = usual()
            self.known.append((_print(data), tensor.clone()))
            return tensor

        with self._made_by(make):
            yield

    @contextmanager
    def given(self) -> Iterator[None]:
        """A run that takes them; `changed` afterwards says whether it had others."""
        rest = iter(self.known)

        def make(usual: Callable[[], Tensor], data: Any) -> Tensor:
            known, tensor = next(rest, (None, None))
            if known == _print(data):
                return tensor.clone()
            self.changed = True
            return usual()

        with self._made_by(make):
            yield
        self.changed = self.changed or next(rest, None) is not None

    @contextmanager
    def _made_by(self, make: Callable[[Callable[[], Tensor], Any], Tensor]) -> Iterator[None]:
        """Where this thread's tensors on the device are made of numbers by `make`."""
        import torch

        thread, names = threading.get_ident(), ("tensor", "as_tensor")
        usual = {name: getattr(torch, name) for name in names}

        def instead(name: str) -> Callable[..., Tensor]:
            def made(data: Any, *args: Any, **kwargs: Any) -> Tensor:
                usually = partial(usual[name], data, *args, **kwargs)
                other = isinstance(data, torch.Tensor) or threading.get_ident() != thread
                if other or torch.device(kwargs.get("device") or "cpu").type != self.device:
                    return usually()
                return make(usually, data)

            return made

        for name in names:
            setattr(torch, name, instead(name))
        try:
            yield
        finally:
            for name in names:
                setattr(torch, name, usual[name])


def _print(data: Any) -> tuple:
    array = np.asarray(data)
    return array.shape, array.dtype.str, array.tobytes()


@contextmanager
def _syncs() -> Iterator[list[str]]:
    """Where the host waits for the device: a sentence on each."""
    import torch

    found: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # which warns that it is a prototype
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in seen:
        text, place = str(warning.message), (warning.filename, warning.lineno)
        if "called a synchronizing" in text:
            found.append("{}, line {}, reads from the GPU".format(*place))
        elif "debug mode is a prototype" not in text:
            warnings.warn_explicit(warning.message, warning.category, *place)


def has_hooks(layers: Iterable[keras.Layer]) -> bool:
    """Whether one of the layers has a hook of torch."""
    return any(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        for layer in layers
    )


def _form(leaf: Any) -> tuple:
    return (tuple(leaf.shape), str(leaf.dtype)) if hasattr(leaf, "shape") else ("value", leaf)


def _pinned(leaf: Any) -> Tensor:
    import torch

    tensor = torch.as_tensor(leaf)
    return tensor if tensor.device.type == "cuda" else tensor.pin_memory()


def _on_device(leaf: Any) -> Any:
    return _pinned(leaf).to("cuda", non_blocking=True) if hasattr(leaf, "shape") else leaf
