"""Layers that are called one after the other: as one graph where there are graphs."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from mimzoo.backend import Tensor, active_graphs, recomputed
from mimzoo.layers.drop_path import draw_factors


class Block(keras.layers.Layer):
    """Base of blocks of two branches: `body` is what is computed.

    A subclass has `drop_path`, `remat`, and `optional`: names of what `body` takes between the
    tokens and the factors, each a tensor or None.
    """

    optional: tuple[str, ...] = ()

    def body(self, x: Tensor, *optional: Tensor | None) -> Tensor:
        """Tokens, what `optional` names, and the factors of both branches or None -> tokens."""
        raise NotImplementedError

    def compute_output_spec(
        self, tokens: keras.KerasTensor, *_: object, **__: object
    ) -> keras.KerasTensor:
        """The shape of the tokens: found by running the block, it would cost more than weights."""
        return keras.KerasTensor(tokens.shape, self.compute_dtype)

    def run(self, tokens: Tensor, optional: Sequence, training: bool | None) -> Tensor:
        """`body`, rematerialised as `remat` says."""
        (factors,) = draw_factors([self.drop_path], tokens, training)
        return run_method(self.body, tokens, (*optional, factors), training, self.remat)


def run_method(
    method: Callable,
    x: Tensor,
    given: Sequence[Tensor | None] = (),
    training: bool | None = None,
    remat: bool | str = False,
) -> Any:
    """`method(x, *given)` of a layer, as a graph where there are graphs.

    In training it is rematerialised as `remat` says.
    """
    graphs = active_graphs(x)
    if graphs is None or not graphs.can_run([method]):
        return recomputed(method, bool(training) and remat)(x, *given)
    return graphs.run([(method, given, remat)], x, bool(training))


def run_layers(
    layers: Sequence[tuple[keras.Layer, dict]],
    x: Tensor,
    training: bool | None,
    outputs: list[Tensor] | None = None,
) -> Tensor:
    """`for layer, options in layers: x = layer(x, **options)`.

    Args:
        layers: blocks and layers of one input, with what they are given beside it.
        x: input of the first.
        training: for those that drop paths.
        outputs: gets what each layer gives.
    """
    blocks = [layer for layer, _ in layers if isinstance(layer, Block)]
    graphs = active_graphs(x) if outputs is None and training is not None else None
    methods = [layer.body if isinstance(layer, Block) else layer.call for layer, _ in layers]
    if graphs is None or not graphs.can_run(methods):
        for layer, options in layers:
            more = {"training": training} if isinstance(layer, Block) else {}
            x = layer(x, **options, **more)
            if outputs is not None:
                outputs.append(x)
        return x
    factors = iter(draw_factors([block.drop_path for block in blocks], x, training))
    links = [
        (method, [*map(options.get, layer.optional), next(factors)], layer.remat)
        if isinstance(layer, Block)
        else (method, (), False)
        for method, (layer, options) in zip(methods, layers, strict=True)
    ]
    return graphs.run(links, x, bool(training))
