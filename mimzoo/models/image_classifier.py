"""Image classification on any backbone."""

from typing import Any

import keras
import keras_hub
from keras import ops

from mimzoo.models.preprocessing import ImageConverter
from mimzoo.models.task import PresetTask

POOLINGS = ("avg", "token")
_CROSS_ENTROPIES = {
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}


class ImageClassifierPreprocessor(keras_hub.models.ImageClassifierPreprocessor):
    """Resizes and normalises images; labels and weights pass through."""

    @classmethod
    def for_image_shape(cls, image_shape: tuple) -> "ImageClassifierPreprocessor":
        """A preprocessor with ImageNet's mean and deviation for a backbone's `image_shape`."""
        return cls(image_converter=cls.image_converter_cls(image_size=image_shape[:2]))


class ImageClassifier(PresetTask, keras_hub.models.ImageClassifier):
    """Backbone, pooling, one linear layer.

    Features are normalised exactly once: by the backbone's final norm if it has one, else after
    pooling (`final_norm=False`: MAE's fine-tuning, models_vit.py, `fc_norm`).

    Args:
        backbone: a mimzoo backbone.
        num_classes: size of the output.
        preprocessor: "auto": resize to the backbone's image size and normalise as ImageNet;
            None: images come as the backbone wants them.
        pooling: "avg", the mean over patches, or "token", the class token.
        activation: of the output; None gives logits.
        dropout: before the linear layer.
        head_init_std: deviation of the truncated normal that the linear layer starts from.
            MAE and MixMIM fine-tune with 2e-5 (main_finetune.py).
        head_dtype: of head and output; default: the backbone's.

    Example:
    ```python
    model = mimzoo.models.ImageClassifier.from_preset(
        "vit_nano_mae_fmnist_20ep", num_classes=10, drop_path_rate=0.1
    )
    model.fit(images, labels)
    ```
    """

    reset_weights_arguments = ("num_classes", "pooling")

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        num_classes: int,
        preprocessor: keras.layers.Layer | str | None = "auto",
        pooling: str = "avg",
        activation: str | None = None,
        dropout: float = 0.0,
        head_init_std: float = 2e-5,
        head_dtype: str | None = None,
        **kwargs,
    ):
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}.")
        if pooling == "token" and not getattr(backbone, "class_token", False):
            raise ValueError("pooling='token' needs a backbone with class_token=True; use 'avg'.")
        if preprocessor == "auto":
            preprocessor = self.preprocessor_cls.for_image_shape(backbone.image_shape)
        head_dtype = head_dtype or backbone.dtype_policy

        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head_norm = (
            None
            if backbone.final_norm
            else keras.layers.LayerNormalization(
                epsilon=backbone.layer_norm_epsilon, dtype=head_dtype, name="head_norm"
            )
        )
        self.output_dropout = keras.layers.Dropout(dropout, dtype=head_dtype, name="output_dropout")
        self.output_dense = keras.layers.Dense(
            num_classes,
            activation=activation,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=head_init_std),
            dtype=head_dtype,
            name="predictions",
        )

        # === Functional Model ===
        inputs = backbone.input
        x = backbone(inputs)
        if pooling == "token":
            x = x[:, 0]
        else:
            x = ops.mean(backbone.feature_map(x), axis=(1, 2))
        if self.head_norm is not None:
            x = self.head_norm(x)
        outputs = self.output_dense(self.output_dropout(x))
        keras_hub.models.Task.__init__(self, inputs=inputs, outputs=outputs, **kwargs)

        # === Config ===
        self.num_classes = num_classes
        self.pooling = pooling
        self.activation = activation
        self.dropout = dropout
        self.head_init_std = head_init_std

    @classmethod
    def for_backbone(cls, backbone_cls: type) -> type:
        """The classifier registered for a backbone class."""
        for known in _subclasses(cls) | {cls}:
            if known.backbone_cls is backbone_cls:
                return known
        raise ValueError(f"mimzoo has no image classifier on {backbone_cls.__name__}.")

    def compile(
        self, optimizer: Any = "auto", loss: Any = "auto", metrics: Any = "auto", **kwargs
    ) -> None:
        """`keras.Model.compile` with the defaults of keras_hub.models.ImageClassifier.

        A cross-entropy given by name is computed from logits unless the classifier has an
        activation: Keras' own default would take logits for probabilities.
        """
        if isinstance(loss, str) and loss in _CROSS_ENTROPIES and self.activation is None:
            loss = _CROSS_ENTROPIES[loss](from_logits=True)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """The backbone's groups; the head belongs to the last."""
        return self.backbone.layer_decay_scales(layer_decay)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "head_init_std": self.head_init_std}


def _subclasses(cls: type) -> set[type]:
    return {s for c in cls.__subclasses__() for s in {c} | _subclasses(c)}


__all__ = ["ImageClassifier", "ImageClassifierPreprocessor", "ImageConverter"]
