"""torch: each kind of layer as one graph of its weights and inputs, traced once and compiled.

A step in eager Keras is slow on the host: each layer's call walks its arguments, scopes and
metadata. And `torch.compile` around Keras' training step, which is what Keras offers, follows all
of that for every block, guards it, and compiles anew whenever the step counter changes. So a layer
is run once under `make_fx`, which records torch operations only; all layers of a kind share the
record, each with its own weights. It runs as it is, or compiled. JAX and TensorFlow trace whole
steps: there nothing of this is used.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any

import keras

from mimzoo.backend.constant import Tensor
from mimzoo.backend.recompute import recomputed
from mimzoo.backend.step_graph import StepGraph, has_hooks
from mimzoo.backend.tracing import in_stateless_scope, is_traced

logger = logging.getLogger("mimzoo")
_ACTIVE: ContextVar["Graphs | None"] = ContextVar("graphs", default=None)
# A method of a layer, what it takes beside the tokens (tensors or None), and its policy of remat.
Link = tuple[Callable[..., Tensor], Sequence[Tensor | None], bool | str]
# What changes nothing in the computation of a layer, or is an input of it.
_NO_MATTER = ("name", "trainable", "drop_path_rate", "rate", "seed", "remat")


class Graphs:
    """The graphs of a model's layers since it was compiled.

    Args:
        jit_compile: of `keras.Model.compile`: True compiles, "auto" compiles on CUDA; else graphs
            run as they were traced. On CUDA what is compiled is replayed as whole steps, too.
        run_eagerly: True: no graphs, Keras' layers are called one by one.
    """

    def __init__(self, jit_compile: bool | str = "auto", run_eagerly: bool = False):
        self.jit_compile, self.run_eagerly = jit_compile, run_eagerly
        self._forget()

    def _forget(self) -> None:
        self._layers: dict[Callable, _Layer] = {}
        self._kinds: dict[tuple, int] = {}
        self._traced: dict[tuple, Callable | None] = {}

    def __getstate__(self) -> dict:
        return {"jit_compile": self.jit_compile, "run_eagerly": self.run_eagerly}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    @property
    def of_keras(self) -> bool | str:
        """What Keras itself has to be given as `jit_compile`."""
        return False if keras.config.backend() == "torch" else self.jit_compile

    @contextmanager
    def active(self) -> Iterator[None]:
        """Where chains run as graphs."""
        token = _ACTIVE.set(None if self.run_eagerly else self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    def can_run(self, methods: Sequence[Callable]) -> bool:
        """Whether nothing has to be seen or done layer by layer: no hook, no quantised layer."""
        for method in methods:
            if method not in self._layers:
                layer = self._layers[method] = _Layer(method)
                layer.number = self._kinds.setdefault(layer.kind, len(self._kinds))
            if not self._layers[method].is_plain():
                return False
        return True

    def run(self, links: Sequence[Link], x: Tensor, training: bool) -> Tensor:
        """`for method, more, _ in links: x = method(x, *more)`, as graphs if they can be traced.

        Args:
            links: methods of layers, for which `can_run`.
            x: input of the first.
            training: whether that is for training.
        """
        compiled = self.compiles(x.device.type)
        for method, more, remat in links:
            layer, remat = self._layers[method], training and remat
            key = (training, compiled, remat, layer.number, _form(x), *map(_form, more))
            if key not in self._traced:
                self._traced[key] = self._make(method, layer, x, more, compiled, remat)
            traced = self._traced[key]
            if traced is None:
                x = recomputed(method, remat)(x, *more)
            else:
                x = traced(x, *layer.values(more))
        return x

    def compiles(self, device: str) -> bool:
        """Whether what runs on a device is compiled."""
        return self.jit_compile is True or (self.jit_compile == "auto" and device == "cuda")

    def _make(
        self,
        method: Callable,
        layer: "_Layer",
        x: Tensor,
        more: Sequence[Tensor | None],
        compiled: bool,
        remat: bool | str,
    ) -> Callable | None:
        import torch

        if any(part.activity_regularizer is not None for part in layer.parts):
            return None  # it adds a loss at each call
        try:
            with torch.no_grad():
                traced = _trace(method, layer, x, more)
        except Exception as error:
            name = type(method.__self__).__name__
            logger.warning("%s runs operation by operation: it cannot be traced (%s)", name, error)
            return None
        # Recomputed inside of what is compiled, so that the compiler keeps what the policy keeps.
        traced = recomputed(traced, remat)
        if not compiled:
            return traced

        def block(x: Tensor, *values: Tensor) -> Tensor:
            return traced(x, *values)

        # torch keeps what it compiled with the code, and few variants of each: one a kind.
        code = block.__code__.replace(co_name=f"block_{len(self._traced)}")
        block = FunctionType(code, block.__globals__, closure=block.__closure__)
        return torch.compile(block, fullgraph=True, dynamic=False)

    def whole_step(self, model: keras.Model, step: Callable[[Any], dict]) -> Callable[[Any], dict]:
        """`step` of a model on CUDA as one graph; see StepGraph. Else, or if not wanted, `step`.

        Nor a step that is split over processes, or that a subclass wrote: that may do anything.
        """
        if keras.config.backend() != "torch" or self.run_eagerly:
            return step
        import torch

        written = type(model).train_step is not keras.Model.train_step
        split = torch.distributed.is_available() and torch.distributed.is_initialized()
        on_cuda = model.variables[0]._value.is_cuda and self.compiles("cuda")
        return StepGraph(model, step) if on_cuda and not written and not split else step


class _Layer:
    """What has to be known of a layer before each of its calls."""

    def __init__(self, method: Callable):
        layer = method.__self__
        self.parts = [m for m in layer.modules() if isinstance(m, keras.Layer)]
        self.changeable = [part for part in self.parts if hasattr(part, "lora_enabled")]
        self.adapted = [part.lora_enabled for part in self.changeable]
        self.variables = layer.variables
        self.kind = (method.__func__, *map(_kind, self.parts))

    def values(self, more: Sequence[Tensor | None]) -> list[Tensor]:
        """What its trace takes beside x: weights, and the tensors among `more`."""
        weights = [variable._value for variable in self.variables]
        return weights + [tensor for tensor in more if tensor is not None]

    def is_plain(self) -> bool:
        """See `Graphs.can_run`."""
        if has_hooks(self.parts):
            return False
        changed = [part.lora_enabled for part in self.changeable] != self.adapted
        return not changed and not any(part.quantization_mode for part in self.changeable)


def _kind(layer: keras.Layer) -> tuple:
    try:
        config = {k: v for k, v in layer.get_config().items() if k not in _NO_MATTER}
    except NotImplementedError:
        return (id(layer),)
    shapes = [(v.name, tuple(v.shape), v.dtype) for v in layer.variables]
    return (type(layer), repr(config), repr(shapes))


def _form(x: Tensor | None) -> tuple | None:
    return None if x is None else (x.shape, x.dtype, x.device)


def _trace(
    method: Callable, layer: _Layer, x: Tensor, more: Sequence[Tensor | None]
) -> Callable[..., Tensor]:
    """`method` as a function of x and `layer.values(more)`."""
    from torch.fx.experimental.proxy_tensor import make_fx

    variables = layer.variables

    def pure(x: Tensor, *values: Tensor) -> Tensor:
        weights, rest = values[: len(variables)], iter(values[len(variables) :])
        with keras.StatelessScope(list(zip(variables, weights, strict=True))) as scope:
            before = [scope.get_current_value(v) for v in variables]
            out = method(x, *(None if tensor is None else next(rest) for tensor in more))
            after = [scope.get_current_value(v) for v in variables]
        if any(old is not new for old, new in zip(before, after, strict=True)):
            raise ValueError("it changes its variables")
        return out

    module = make_fx(pure, pre_dispatch=True)(x, *layer.values(more))
    graph = module.graph
    for node in list(graph.nodes):
        # Keras converts each tensor to the type and device that it has already.
        if str(node.target).startswith("aten.to."):
            source, made = node.args[0].meta["val"], node.meta["val"]
            if (source.dtype, source.device) == (made.dtype, made.device):
                node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()
    module.recompile()
    return module.forward


def active_graphs(x: Tensor) -> Graphs | None:
    """The graphs that layers called on `x` run in; None where they are called one by one."""
    graphs = _ACTIVE.get()
    if graphs is None or keras.config.backend() != "torch":
        return None
    import torch

    # Others trace, or the weights are not those of the layers.
    plain = type(x) in (torch.Tensor, torch.nn.Parameter) and not x.is_meta
    return graphs if plain and not is_traced(x) and not in_stateless_scope() else None
