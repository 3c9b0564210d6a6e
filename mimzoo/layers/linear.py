"""The linear layer that all others are made of."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import keras
from keras import ops

from mimzoo.backend import Tensor, blank, linear, load_variable, needs_call_only

_BLANK: ContextVar[bool] = ContextVar("blank", default=False)


@contextmanager
def blank_weights() -> Iterator[None]:
    """Linear layers that are built in here start with anything: what is loaded next replaces it.

    To draw a ViT-B was a fifth of the CPU time of loading it on torch.
    """
    token = _BLANK.set(True)
    try:
        yield
    finally:
        _BLANK.reset(token)


@keras.saving.register_keras_serializable(package="mimzoo")
class Linear(keras.layers.Dense):
    """`keras.layers.Dense` with the product that is fastest on each backend.

    Quantisation and LoRA work as there. The default initialisation, Xavier uniform and zero, is
    that of MAE (models_mae.py, `_init_weights`).
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """As Keras' own, or blank inside `blank_weights`."""
        if _BLANK.get():
            kwargs["initializer"] = blank
        return super().add_weight(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """As of every layer, at less cost on torch."""
        if len(args) == 1 and not kwargs and needs_call_only(self, args[0]):
            return self.call(args[0])
        return super().__call__(*args, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """(B, ..., D) -> (B, ..., units)."""
        kernel = ops.convert_to_tensor(self.kernel, inputs.dtype)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias, inputs.dtype)
        return linear(inputs, kernel, bias)

    @property
    def variable_serialization_spec(self) -> Mapping:
        """As Dense's, but no dict: Keras searches each one for layers in the file."""
        return MappingProxyType(super().variable_serialization_spec)

    def load_own_variables(self, store: dict) -> None:
        """As Dense, in fewer copies."""
        if not self.built or self.lora_enabled or self.quantization_mode is not None:
            super().load_own_variables(store)
            return
        self._check_load_own_variables(store)
        for number, variable in enumerate(self.weights):
            load_variable(variable, store, str(number))

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: object | None = None
    ) -> None:
        """As Dense, which refuses its subclasses: this one computes the same."""
        super().quantize(mode, type_check=False, config=config)
