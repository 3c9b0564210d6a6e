"""The base of all MIM tasks: backbone + masking + decoder + target, trained by `fit`.

A method adds `call` and `compute_loss`. Nothing overrides `train_step`: every backend, wrapper
and distribution that Keras supports works.
"""

from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, share_of_replica
from mimzoo.models.image_classifier import ImageClassifier
from mimzoo.models.preprocessing import ImageConverter
from mimzoo.models.task import PresetTask, mark_built
from mimzoo.optimizers import AdamW
from mimzoo.pretraining.batches import masked_batches
from mimzoo.pretraining.frozen import FrozenVariables
from mimzoo.pretraining.pictures import Pictures
from mimzoo.pretraining.targets import Target


@keras.saving.register_keras_serializable(package="mimzoo")
class MIMPreprocessor(keras_hub.models.Preprocessor):
    """Resizes and normalises images for a MIM task."""

    def __init__(self, image_converter: ImageConverter, **kwargs):
        super().__init__(**kwargs)
        self.image_converter = image_converter

    def call(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, 1 or 3) in [0, 255] -> float32 at the backbone's size."""
        return self.image_converter(images)


class MIMTask(Pictures, PresetTask, keras_hub.models.Task):
    """Base class of the methods.

    `fit`, `evaluate` and `predict` take images, without labels or masks: an array, or any data
    set of images that Keras takes. Masks are drawn from (seed, epoch, example index);
    evaluation always uses epoch 0. A data set that yields {"images", "masks"}, such as
    `mimzoo.data.Loader` does, is used as it is.

    Args:
        backbone: a mimzoo backbone; the only part that fine-tuning keeps.
        masking: draws the masks.
        decoder: from features to predictions.
        target: what is predicted, and its loss.
        preprocessor: see MAE.
    """

    preprocessor_cls = MIMPreprocessor
    reset_weights_arguments = ("decoder", "target")

    def __init__(
        self,
        backbone: keras.Model,
        masking: Any,
        decoder: keras.layers.Layer,
        target: Target,
        preprocessor: keras.layers.Layer | str | None = "auto",
        compile: bool = True,
        **kwargs,
    ):
        super().__init__(compile=False, **kwargs)
        if preprocessor == "auto":
            converter_cls = self._converter_cls(type(backbone))
            preprocessor = MIMPreprocessor(converter_cls(image_size=backbone.image_shape[:2]))
        self.backbone = backbone
        self.preprocessor = preprocessor
        mark_built(preprocessor)
        self.masking = masking
        self.decoder = decoder
        self.target = target
        self.dtype_policy = backbone.dtype_policy
        converter = preprocessor.image_converter if preprocessor is not None else None
        target.attach(backbone.image_shape, backbone.stride, converter)
        # Without this, JAX would compile the values into its step as constants.
        self.frozen = FrozenVariables(target.variables) if target.variables else None
        self.attach()
        self.built = True
        if compile:
            self.compile()

    def attach(self) -> None:
        """Fits masking, decoder and target to the backbone; the constructor calls it once."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its parts fit.")

    def check_stride(self) -> None:
        """Raises ValueError for images that the backbone would have to pad."""
        stride, (*sides, channels) = self.backbone.stride, self.backbone.image_shape
        if any(side % stride for side in sides):
            fit = [max(round(side / stride), 1) * stride for side in sides]
            raise ValueError(
                f"{type(self).__name__} needs images whose sides are multiples of the backbone's "
                f"stride {stride}, got {sides[0]}x{sides[1]}: load the backbone with "
                f"image_shape=({fit[0]}, {fit[1]}, {channels})."
            )

    def check_count(self, count: int) -> None:
        """Raises ValueError for a number of images that makes no batch; any does for most."""

    @property
    def frozen_variables(self) -> list[keras.Variable]:
        """Variables that a step reads but that belong to the target: no file holds them."""
        return self.frozen.variables if self.frozen is not None else []

    @staticmethod
    def _converter_cls(backbone_cls: type) -> type:
        return ImageClassifier.for_backbone(backbone_cls).preprocessor_cls.image_converter_cls

    def draw_masks(self, index: np.ndarray, epoch: int = 0) -> np.ndarray:
        """Masks (B, N) of the examples `index` (B,) in an epoch; 1 = hidden."""
        backbone = self.backbone
        return self.masking.draw(np.asarray(index), epoch, backbone.grid, backbone.patch_size)

    def compile(self, optimizer: Any = "auto", **kwargs) -> None:
        """`keras.Model.compile` without a loss: the target brings it.

        "auto" is mimzoo's AdamW as MAE pretrains at batch 256 (learning rate 1.5e-4, betas 0.9 and
        0.95, weight decay 0.05, none of 1-D weights and biases; papers.md section 2).
        """
        if kwargs.get("loss") is not None:
            raise ValueError("a MIM task takes its loss from its target: compile without `loss`.")
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = AdamW(self, 1.5e-4)
        super().compile(optimizer=optimizer, **kwargs)

    # --- data ---------------------------------------------------------------------------------

    def preprocess(self, images: np.ndarray) -> np.ndarray:
        """Images as users have them -> float32 (B, H, W, C) as the backbone takes them.

        Raises:
            ValueError: without a preprocessor, images of another shape than the backbone's.
        """
        if self.preprocessor is not None:
            images = self.preprocessor(images)
        images = np.asarray(keras.ops.convert_to_numpy(images), "float32")
        if images.shape[1:] != self.backbone.image_shape:
            raise ValueError(
                f"images have shape {images.shape}, the backbone takes "
                f"(N, {', '.join(map(str, self.backbone.image_shape))}): "
                "resize them, or load the backbone with another image_shape."
            )
        return images

    def check_keys(self, inputs: dict) -> None:
        """Raises ValueError unless `inputs` has "images" and "masks", perhaps "weights"."""
        if set(inputs) - {"weights"} != {"images", "masks"}:
            raise ValueError(f"expected the keys 'images' and 'masks', got {sorted(inputs)}.")

    def check_inputs(self, inputs: dict) -> None:
        """Raises ValueError unless `inputs` are {"images", "masks"} that fit the backbone."""
        self.check_keys(inputs)
        masks = np.asarray(ops.convert_to_numpy(inputs["masks"]))
        grid = self.backbone.grid
        count, hidden = grid[0] * grid[1], self.masking.num_hidden(grid, self.backbone.patch_size)
        if masks.shape[1:] != (count,) or not np.all((masks != 0).sum(1) == hidden):
            raise ValueError(
                f"masks must be (N, {count}) with {hidden} ones in each row (1 = hidden), "
                f"got shape {masks.shape}."
            )

    def fit(
        self,
        x: Any = None,
        *,
        batch_size: int | None = None,
        validation_data: Any = None,
        epochs: int = 1,
        shuffle: bool = True,
        **kwargs,
    ) -> keras.callbacks.History:
        """Trains on images; see the class for what `x` and `validation_data` may be.

        Args:
            x: images.
            batch_size: of both, default 32.
            validation_data: images, evaluated after each epoch with masks that never change.
            epochs: passes over `x`.
            shuffle: whether arrays are visited in a new order each epoch.
            **kwargs: of `keras.Model.fit`.
        """
        data = masked_batches(self, x, batch_size, training=True, shuffle=shuffle)
        if validation_data is not None:
            validation_data = masked_batches(self, validation_data, batch_size, training=False)
        return keras.Model.fit(
            self,
            data,
            batch_size=batch_size if isinstance(data, dict) else None,
            validation_data=validation_data,
            epochs=epochs,
            shuffle=shuffle,
            **kwargs,
        )

    def evaluate(self, x: Any = None, *, batch_size: int | None = None, **kwargs) -> Any:
        """Loss on images with the masks of epoch 0: the same for every batch size and backend."""
        if not kwargs.get("_use_cached_eval_dataset"):
            x = masked_batches(self, x, batch_size, training=False)
            batch_size = batch_size if isinstance(x, dict) else None
        return keras.Model.evaluate(self, x, batch_size=batch_size, **kwargs)

    def predict(self, x: Any = None, *, batch_size: int | None = None, **kwargs) -> np.ndarray:
        """Predictions (N, patches or cells, P) with the masks of epoch 0."""
        x = masked_batches(self, x, batch_size, training=False)
        batch_size = batch_size if isinstance(x, dict) else None
        return keras.Model.predict(self, x, batch_size=batch_size, **kwargs)

    def check_no_labels(self, y: Any, sample_weight: Any) -> None:
        """Raises ValueError where labels or weights reach a task that has no use for them."""
        if y is not None or sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__} takes images only: pass neither labels nor sample weights."
            )

    def loss_weights(self, masks: Tensor) -> Tensor:
        """What each patch counts in the loss, float32: the masks (B, N), or ones."""
        masks = ops.cast(masks, "float32")
        return masks if self.target.on == "masked" else ops.ones_like(masks)

    def mean_loss(self, x: dict, loss: Tensor, counts: Tensor, nothing: float = 0.0) -> Tensor:
        """sum(loss * counts) / sum(counts), times each example's weight where `x` has weights.

        Args:
            x: the inputs of the step; "weights" (B,) have the mean 1 over an evaluation, 0 for
                copies that fill its last batch.
            loss: (B, N).
            counts: (B, N), what each number counts; the same sum for each example.
            nothing: added to the denominator.

        Returns:
            A scalar; under `tf.distribute` this replica's share of it.
        """
        weighted = loss * counts
        if "weights" in x:
            weighted = weighted * ops.cast(x["weights"], "float32")[:, None]
        return share_of_replica(ops.sum(weighted) / (ops.sum(counts) + nothing))

    @classmethod
    def replaced_parts(cls, stored: dict, given: dict) -> set[str]:
        """As in PresetTask; a target that is the stored one, given anew, replaces nothing."""
        replaced = super().replaced_parts(stored, given)
        if "target" in replaced and given["target"].is_same(stored.get("target")):
            replaced.remove("target")
        return replaced

    @classmethod
    def load_preprocessor(cls, folder: Any, image_shape: tuple) -> keras.layers.Layer | None:
        """The stored converter at the backbone's size, or the default for the backbone."""
        if not (folder / "image_converter.json").exists():
            return "auto"
        return super().load_preprocessor(folder, image_shape)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for name in ("masking", "decoder", "target"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: dict) -> "MIMTask":
        """The inverse of `get_config`."""
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
