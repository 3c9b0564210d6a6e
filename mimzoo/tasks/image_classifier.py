"""Image classification on any backbone."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import fuse_adam
from mimzoo.layers.dropout import Dropout
from mimzoo.models.flops import backbone_flops
from mimzoo.tasks import cross_entropy
from mimzoo.tasks.class_task import ClassTask, check_num_classes, make_task_class
from mimzoo.tasks.inputs import TaskInputs
from mimzoo.tasks.preprocessing import ImageConverter
from mimzoo.tasks.task import mark_built

POOLINGS = ("avg", "token")
_ACTIVATIONS = ("linear", "softmax", "sigmoid", "hard_sigmoid", "sparsemax")


class ImageClassifierPreprocessor(keras_hub.models.ImageClassifierPreprocessor):
    """Resizes and normalises images; labels and weights pass through."""

    @classmethod
    def for_image_shape(cls, image_shape: tuple) -> "ImageClassifierPreprocessor":
        """A preprocessor with ImageNet's mean and std for a backbone's `image_shape`."""
        return cls(image_converter=cls.image_converter_cls(image_size=image_shape[:2]))


class ImageClassifier(TaskInputs, ClassTask, keras_hub.models.ImageClassifier):
    """Backbone, pooling, one linear layer.

    `fit`, `evaluate` and `predict` take labelled images in any form; see `TaskInputs`. Labels are
    integers 0..num_classes-1, or (N, num_classes) shares; with `num_classes=1`, 0 or 1.

    Features are normalised exactly once: by the backbone's final norm if it has one, else after
    pooling (`final_norm=False`: MAE's fine-tuning, models_vit.py, `fc_norm`).

    Args:
        backbone: a mimzoo backbone.
        num_classes: size of the output; 1: one number for two classes.
        preprocessor: "auto": resize to the backbone's image size and normalise as ImageNet;
            None: images come as the backbone wants them.
        pooling: "avg", the mean over patches, or "token", the class token.
        activation: of the output; None gives logits.
        dropout: before the linear layer.
        head_init_std: standard deviation of the truncated normal that the linear layer starts
            from.
            MAE and MixMIM fine-tune with 2e-5 (main_finetune.py).
        class_names: what the outputs stand for, in their order (two with `num_classes=1`);
            "imagenet": the 1,000 of ImageNet-1K, as KerasHub names them.
        head_dtype: of head and output; default: the backbone's.

    Raises:
        ValueError: an unknown `pooling`, or `class_names` of another number than `num_classes`.

    Example:
    ```python
    model = mimzoo.models.ImageClassifier.from_preset(
        "vit_nano_mae_fmnist_20ep", num_classes=10, drop_path_rate=0.1
    )
    model.fit(images, labels)
    ```
    """

    reset_weights_arguments = ("num_classes", "pooling")
    labelled = True
    # Of the order of images.
    seed = 0

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        num_classes: int,
        preprocessor: keras.layers.Layer | str | None = "auto",
        pooling: str = "avg",
        activation: str | None = None,
        dropout: float = 0.0,
        head_init_std: float = 2e-5,
        class_names: Sequence[str] | str | None = None,
        head_dtype: str | None = None,
        compile: bool = True,
        **kwargs,
    ):
        if class_names is not None and not isinstance(class_names, str):
            class_names = tuple(class_names)
        num_classes = check_num_classes(num_classes)
        if not self.names_fit(class_names, num_classes):
            count = "1000" if isinstance(class_names, str) else len(class_names)
            raise ValueError(
                f"class_names names {count} classes, num_classes is {num_classes}: give as many, "
                "or None."
            )
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}.")
        if pooling == "token" and not getattr(backbone, "class_token", False):
            raise ValueError("pooling='token' needs a backbone with class_token=True; use 'avg'.")
        check_activation(activation)
        if isinstance(preprocessor, str) and preprocessor == "auto":
            preprocessor = self.preprocessor_cls.for_image_shape(backbone.image_shape)
        own_dtype, head_dtype = head_dtype, head_dtype or backbone.dtype_policy

        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        mark_built(preprocessor)
        self.head_norm = (
            None
            if backbone.final_norm
            else keras.layers.LayerNormalization(
                epsilon=backbone.layer_norm_epsilon, dtype=head_dtype, name="head_norm"
            )
        )
        self.output_dropout = Dropout(dropout, dtype=head_dtype, name="output_dropout")
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
        keras_hub.models.Task.__init__(
            self, inputs=inputs, outputs=outputs, compile=False, **kwargs
        )

        # === Config ===
        self.num_classes = num_classes
        self.pooling = pooling
        self.activation = activation
        self.dropout = dropout
        self.head_init_std = head_init_std
        self.class_names = class_names
        self.head_dtype = own_dtype
        if compile:
            self.compile()

    def decode_predictions(self, predictions: Any, top: int = 5) -> list[list[tuple[str, float]]]:
        """The most likely classes of each image, with their probabilities.

        ```python
        model = mimzoo.models.ImageClassifier.from_preset("swinv2_base_simmim_in1k_500k_in1k_224")
        model.decode_predictions(model.predict(photographs))[0]  # [("goldfish", 0.97), …]
        ```

        Args:
            predictions: (B, num_classes), as `predict` gives them: logits, or probabilities if
                the classifier has an activation.
            top: how many.

        Returns:
            For each image `top` pairs, the most likely first. Classes without a name are called
            by their number.

        Raises:
            ValueError: predictions of another number of classes.
        """
        scores = ops.convert_to_numpy(predictions).astype("float64")
        if scores.ndim != 2 or scores.shape[1] != self.num_classes:
            raise ValueError(
                f"predictions must be (images, {self.num_classes}), got {scores.shape}."
            )
        if self.num_classes == 1:
            shares = 1 / (1 + np.exp(-scores)) if self.gives_logits else scores
            scores = np.concatenate([1 - shares, shares], axis=1)
        elif self.gives_logits and cross_entropy.of_each(getattr(self, "loss", None)):
            scores = 1 / (1 + np.exp(-scores))
        elif self.gives_logits:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return [
            [(self._name_of(c), float(row[c])) for c in best]
            for row, best in zip(scores, order, strict=True)
        ]

    @property
    def gives_logits(self) -> bool:
        """Whether the outputs are logits, not probabilities."""
        return keras.activations.get(self.activation) is keras.activations.linear

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises ValueError for labels that are no class, or that do not fit the loss."""
        cross_entropy.check_labels(labels, self.num_classes, getattr(self, "loss", None))

    def preprocess(self, images: Any) -> np.ndarray:
        """Images as users have them -> float32 (B, H, W, C) as the backbone takes them."""
        images = self.preprocessor(images) if self.preprocessor is not None else images
        return self.input_rules(training=False).checked(ops.convert_to_numpy(images))

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image."""
        return backbone_flops(self.backbone) + 2 * self.backbone.output_dim * self.num_classes

    def _name_of(self, number: int) -> str:
        if isinstance(self.class_names, str):
            return keras_hub.utils.imagenet_id_to_name(int(number))
        return str(self.class_names[number] if self.class_names else number)

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        metrics: Any = "auto",
        weighted_metrics: Any = None,
        **kwargs,
    ) -> None:
        """`keras.Model.compile` with the defaults of keras_hub.models.ImageClassifier.

        Cross-entropies and their like, in any form that Keras takes, are computed from logits where
        the classifier gives logits: Keras' own default would take them for probabilities.

        Raises:
            ValueError: a loss of logits, and the classifier has an activation; or a loss or metric
            of probabilities, and it has none.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(5e-5)  # KerasHub's
            fuse_adam(optimizer)
        if isinstance(loss, str) and loss == "auto":
            loss = cross_entropy.default_loss(self.num_classes, self.gives_logits)
        loss = cross_entropy.fitted_loss(loss, self.gives_logits)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = cross_entropy.default_metrics(self.num_classes, self.gives_logits, loss)
        metrics, weighted_metrics = (
            cross_entropy.fitted_metrics(some, self.num_classes, self.gives_logits, loss)
            for some in (metrics, weighted_metrics)
        )
        super().compile(
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            **kwargs,
        )

    @staticmethod
    def names_fit(class_names: Sequence[str] | str | None, num_classes: int) -> bool:
        """Also "imagenet"; one output stands for two classes."""
        if isinstance(class_names, str):
            if class_names != "imagenet":
                raise ValueError(
                    f'class_names must be a list of names, "imagenet" or None, got {class_names!r}.'
                )
            return num_classes == 1000
        return ClassTask.names_fit(class_names, 2 if num_classes == 1 else num_classes)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"head_init_std": self.head_init_std, "class_names": self.class_names}
        own |= self.own_dtype()
        if self.output_dense.quantization_mode is not None:
            policies = {self.output_dense.path: self.output_dense.dtype_policy}
            own["head_dtype"] = keras.dtype_policies.DTypePolicyMap(policy_map=policies)
        return {**super().get_config(), **own}


def make_classifier(backbone_cls: type, module: str) -> type[ImageClassifier]:
    """The classes with which KerasHub finds and stores classifiers on a backbone's class.

    Args:
        backbone_cls: `XBackbone`; `XImageConverter`, `XImageClassifierPreprocessor` and
            `XImageClassifier` are made and registered.
        module: where they are said to be.

    Returns:
        The classifier's class.
    """
    preprocessor = make_task_class(
        ImageClassifierPreprocessor,
        backbone_cls,
        module,
        image_converter_cls=ImageConverter.for_backbone(backbone_cls),
    )
    return make_task_class(ImageClassifier, backbone_cls, module, preprocessor_cls=preprocessor)


__all__ = ["ImageClassifier", "ImageClassifierPreprocessor", "ImageConverter"]


def check_activation(activation: Any) -> None:
    """Raises ValueError for one of Keras' activations that gives neither logits nor probabilities.

    Losses and metrics would take its values for probabilities.
    """
    function = keras.activations.get(activation)
    known = {keras.activations.get(name) for name in _ACTIVATIONS}
    if getattr(function, "__module__", "").startswith("keras.") and function not in known:
        raise ValueError(
            f"activation={activation!r} gives no probabilities: leave it out, as losses take "
            f"logits, or give one of {', '.join(_ACTIVATIONS[1:])}."
        )
