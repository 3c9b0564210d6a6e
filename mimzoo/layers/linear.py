"""The linear layer that all others are made of."""

import keras
from keras import ops

from mimzoo.backend import Tensor


@keras.saving.register_keras_serializable(package="mimzoo")
class Linear(keras.layers.Dense):
    """`keras.layers.Dense` that on torch adds the bias inside the product.

    Quantisation and LoRA work as there. The default initialisation, Xavier uniform and zero, is
    that of MAE (models_mae.py, `_init_weights`).
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """(B, ..., D) -> (B, ..., units)."""
        if keras.config.backend() != "torch" or self.bias is None:
            return super().call(inputs, training=training)
        import torch.nn.functional as F

        kernel = ops.convert_to_tensor(self.kernel, inputs.dtype)
        y = F.linear(inputs, kernel.t(), ops.convert_to_tensor(self.bias, inputs.dtype))
        return y if self.activation is None else self.activation(y)

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: object | None = None
    ) -> None:
        """As Dense, which refuses its subclasses: this one computes the same."""
        super().quantize(mode, type_check=False, config=config)
