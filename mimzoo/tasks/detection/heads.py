"""The heads of RetinaNet: from a pyramid to numbers for every anchor."""

import math

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.tasks.detection.anchors import AT_A_PLACE


@keras.saving.register_keras_serializable(package="mimzoo")
class BoxHead(keras.layers.Layer):
    """Convolutions of 3 x 3 with ReLU, then one that gives numbers for each anchor of a place.

    Lin et al., arXiv 1708.02002, section 4.1: all maps share the weights, which start with a
    standard deviation of 0.01. (KerasHub's head starts with 0.05, and has the prior on the boxes.)

    Args:
        outputs: numbers for an anchor: 4, or the number of classes.
        channels: of the convolutions before the last.
        depth: how many there are.
        prior: the probability that the last bias starts with; None: the bias starts at 0.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 256,
        depth: int = 4,
        prior: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.outputs, self.channels, self.depth, self.prior = outputs, channels, depth, prior

    def build(self, shapes: list[tuple]) -> None:
        """For maps (B, rows, cols, D) with one D."""
        bias = 0.0 if self.prior is None else math.log(self.prior / (1 - self.prior))
        width = shapes[0][-1]
        places = sum(shape[1] * shape[2] for shape in shapes)
        self.flops, self.convs = 0, []  # flops of one image
        for number in range(self.depth + 1):
            last = number == self.depth
            conv = keras.layers.Conv2D(
                AT_A_PLACE * self.outputs if last else self.channels,
                3,
                padding="same",
                activation=None if last else "relu",
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                bias_initializer=keras.initializers.Constant(bias if last else 0.0),
                name="last" if last else f"conv_{number}",
                dtype=self.dtype_policy,
            )
            conv.build((None, None, None, width))
            self.flops += 2 * places * 9 * width * conv.filters
            width = conv.filters
            self.convs.append(conv)

    def call(self, levels: list[Tensor]) -> Tensor:
        """Maps -> (B, A, outputs) float32, in the order of `anchor_boxes`."""
        found = []
        for x in levels:
            for conv in self.convs:
                x = conv(x)
            found.append(ops.reshape(ops.cast(x, "float32"), (-1, _count(x), self.outputs)))
        return ops.concatenate(found, axis=1)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("outputs", "channels", "depth", "prior")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _count(x: Tensor) -> int:
    return x.shape[1] * x.shape[2] * AT_A_PLACE
