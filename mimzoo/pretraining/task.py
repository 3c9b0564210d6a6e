"""The base of all MIM tasks: backbone + masking + decoder + target, trained by `fit`.

A method adds `call`. Nothing overrides `train_step`: every backend, wrapper and distribution that
Keras supports works.
"""

import logging
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import StepGraph, Tensor, is_traced, share_of_replica
from mimzoo.data.inputs import checked_weights
from mimzoo.optimizers.adamw import AdamW
from mimzoo.pretraining.ema import Teacher
from mimzoo.pretraining.pictures import Pictures
from mimzoo.pretraining.targets import Step, Target
from mimzoo.tasks.inputs import TaskInputs, fed, is_fed
from mimzoo.tasks.preprocessing import ImageConverter
from mimzoo.tasks.task import PresetTask, mark_built

logger = logging.getLogger("mimzoo")


@keras.saving.register_keras_serializable(package="mimzoo")
class MIMPreprocessor(keras_hub.models.Preprocessor):
    """Resizes and normalises images for a MIM task."""

    def __init__(self, image_converter: ImageConverter, **kwargs):
        super().__init__(**kwargs)
        self.image_converter = image_converter

    def call(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, 1 or 3), see ImageConverter -> float32 at the backbone's size."""
        return self.image_converter(images)


_NOT_COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics")


class MIMTask(Pictures, TaskInputs, PresetTask, keras.Model):
    """Base class of the methods.

    `fit`, `evaluate` and `predict` take images, without labels or masks; see `TaskInputs` for what
    that may be. What a step needs beside images is drawn by `draw` from (seed, epoch, example
    index); evaluation always uses epoch 0. Ready inputs, {"images", "masks"}, are used as they are.

    A method says what its step needs (`draw`, `check_inputs`) and computes predictions (`call`).
    The target gives the loss of each prediction, `loss_weights` what each counts.

    Args:
        backbone: a mimzoo backbone; the only part that fine-tuning keeps.
        masking: draws the masks.
        decoder: from features to predictions.
        target: what is predicted, and its loss.
        preprocessor: see MAE.
    """

    preprocessor_cls = MIMPreprocessor
    reset_weights_arguments = ("decoder", "target")
    # Added to the denominator of the mean loss.
    loss_epsilon = 0.0
    # Axes of masks: 2, or 3 for several of each image; None: not checked.
    mask_axes: int | None = None
    # Patches that every mask has to show; None: any number.
    num_visible: int | None = None

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
        # Not a subclass of KerasHub's Task: its constructor takes `Functional` away from the bases
        # of every classifier in the process.
        super().__init__(**kwargs)
        if preprocessor == "auto":
            converter = ImageConverter.for_backbone(type(backbone))
            preprocessor = MIMPreprocessor(converter(image_size=backbone.image_shape[:2]))
        self.backbone = backbone
        self.preprocessor = preprocessor
        mark_built(preprocessor)
        self.masking = masking
        self.decoder = decoder
        self.target = target
        self.dtype_policy = backbone.dtype_policy
        if getattr(decoder, "built", False):
            raise ValueError(
                f"this {type(decoder).__name__} belongs to another task: make one for each."
            )
        target.build(self)
        # Held here, or JAX would compile its values into the step as constants.
        self.teacher: Teacher | None = target.teacher
        self.build_parts()
        if self.mask_axes is not None:
            self.draw(np.arange(64))  # raises where the masking does not fit
        self.built = True
        if compile:
            self.compile()

    def without_weights(self, preset: str) -> None:
        """Warns that the decoder is new: pretraining continues with the backbone alone."""
        logger.warning(
            "%s holds no %s: its backbone is loaded, and the decoder starts at random",
            preset,
            type(self).__name__,
        )

    def build_parts(self) -> None:
        """Fits masking and decoder to the backbone; the constructor calls it once."""
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

    @property
    def frozen_variables(self) -> list[keras.Variable]:
        """Variables that a step reads and no file holds: those of a frozen teacher."""
        return self.teacher.held if self.teacher is not None and not self.teacher.saved else []

    # --- inputs -------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """Of masks and order, unless `fit` gets another: the masking's."""
        return self.masking.seed

    def draw(
        self, index: np.ndarray, epoch: int = 0, seed: int | None = None, training: bool = False
    ) -> dict[str, np.ndarray]:
        """{"masks": (B, N) uint8 over patches, 1 = hidden} of the examples `index`."""
        backbone = self.backbone
        masks = self.masking.draw(
            np.asarray(index), epoch, backbone.grid, backbone.patch_size, seed, training
        )
        self.check_drawn(masks)
        return {"masks": masks}

    def check_drawn(self, masks: np.ndarray) -> None:
        """Raises ValueError for masks, as the masking draws them, that the method cannot take."""
        name, masking = type(self).__name__, type(self.masking).__name__
        if self.mask_axes is not None and masks.ndim != self.mask_axes:
            wanted = "one mask" if self.mask_axes == 2 else "several masks"
            raise ValueError(
                f"{name} takes {wanted} of each image, and {masking} draws them in the shape "
                f"{masks.shape}: give it another masking."
            )
        if self.num_visible is None:
            return
        found = (masks == 0).sum(-1)
        if not (found == self.num_visible).all():
            raise ValueError(
                f"{name} was made for {self.num_visible} visible patches, and {masking} shows "
                f"{found.min()} to {found.max()}: make the task with a masking that hides the same "
                "number in each image."
            )

    def check_inputs(self, inputs: dict) -> None:
        """Raises ValueError unless `inputs` are {"images", "masks"} that fit the backbone."""
        if not isinstance(inputs, dict):
            raise ValueError(
                f"{type(self).__name__} itself takes ready inputs, a dict of images and masks: "
                "give images to fit, evaluate or predict, which draw the masks."
            )
        known = {"images", *self.draw(np.arange(self.multiple))}
        if set(inputs) - {"weights"} != known:
            raise ValueError(
                f"expected the keys {', '.join(map(repr, sorted(known)))}, got {sorted(inputs)}."
            )
        masks = np.asarray(ops.convert_to_numpy(inputs["masks"]))
        if len(masks) != len(inputs["images"]):
            raise ValueError(
                f"there are {len(inputs['images'])} images and {len(masks)} masks: give one mask "
                "for each image."
            )
        if "weights" in inputs:
            weights = checked_weights(inputs["weights"], "weights")
            if weights.shape != (len(masks),):
                raise ValueError(
                    f"weights have the shape {weights.shape}, and there are {len(masks)} images: "
                    "give one number for each."
                )
        self.check_masks(masks)

    def check_masks(self, masks: np.ndarray) -> None:
        """Raises ValueError unless masks given by hand hide what the masking would."""
        self.masking.check(masks, self.backbone.grid, self.backbone.patch_size)

    def preprocess(self, images: Any) -> np.ndarray:
        """Images as users have them -> float32 (B, H, W, C) as the backbone takes them.

        Raises:
            ValueError: without a preprocessor, images of another shape than the backbone's.
        """
        if self.preprocessor is not None:
            images = self.preprocessor(images)
        return self.input_rules(training=False).checked(ops.convert_to_numpy(images))

    def check_labels(self, labels: Any) -> None:
        """Raises ValueError: a MIM task has no use for labels."""
        raise ValueError(
            f"{type(self).__name__} takes images only: pass neither labels nor sample weights."
        )

    # --- the step -----------------------------------------------------------------------------

    def __call__(self, inputs: dict, training: bool | None = None, **kwargs) -> Tensor:
        """`call`, once inputs that are given by hand were checked."""
        if not is_fed() and not any(map(is_traced, keras.tree.flatten(inputs))):
            self.check_inputs(inputs)
        return super().__call__(inputs, training=training, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Keras' step; inputs that are given by hand are checked before it may be replayed."""
        super().make_train_function(force)
        step = self.train_function
        if isinstance(step, StepGraph):

            def checked(data: Any) -> dict:
                if not is_fed():
                    self.check_inputs(data[0][0])
                with fed():
                    return step(data)

            self.train_function = checked

    def compile(self, optimizer: Any = "auto", **kwargs) -> None:
        """`keras.Model.compile` without a loss: the target brings it.

        "auto" is mimzoo's AdamW as MAE pretrains at batch 256 (main_pretrain.py: learning rate
        1.5e-4, betas 0.9 and 0.95, weight decay 0.05, none of 1-D weights and biases).
        """
        given = [n for n in _NOT_COMPILED if kwargs.get(n) is not None]
        if given:
            raise ValueError(
                f"a MIM task takes its loss from its target, and has no labels to measure with: "
                f"compile without {given[0]}."
            )
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = AdamW(self, 1.5e-4)
        super().compile(optimizer=optimizer, **kwargs)

    def follow(self, training: bool | None) -> None:
        """A teacher that follows the student does so; a method calls it first in its `call`."""
        if training and self.teacher is not None:
            self.teacher.follow(self.backbone)

    def compute_loss(
        self,
        x: dict | None = None,
        y: None = None,
        y_pred: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """The target's loss, averaged as `loss_weights` says, and what regularizers add."""
        if y is not None or sample_weight is not None:
            self.check_labels(y)
        loss = self.target.loss(self.step(x), y_pred)
        return self.mean_loss(x, loss, self.loss_weights(x)) + self.added_losses()

    def added_losses(self) -> Tensor | float:
        """The sum of what regularizers and `add_loss` of layers add to the loss, as in Keras."""
        found = [ops.sum(ops.cast(loss, "float32")) for loss in self.losses]
        return share_of_replica(sum(found)) if found else 0.0

    def step(self, inputs: dict) -> Step:
        """What the target sees of a step."""
        return Step(inputs["images"], self.prediction_stride, inputs, self)

    def loss_weights(self, inputs: dict) -> Tensor:
        """What each prediction counts in the loss, float32: the masks, or ones if the target says
        so. Where a prediction stands for several patches, the share of them that is hidden.
        """
        masks = ops.cast(inputs["masks"], "float32")
        if self.target.loss_on == "all":
            masks = ops.ones_like(masks)
        side = self.prediction_stride // self.backbone.patch_size
        if side == 1:
            return masks
        rows, cols = (count // side for count in self.backbone.grid)
        masks = ops.mean(ops.reshape(masks, (-1, rows, side, cols, side)), axis=(2, 4))
        return ops.reshape(masks, (-1, rows * cols))

    def mean_loss(self, inputs: dict, loss: Tensor, counts: Tensor) -> Tensor:
        """sum(loss * counts) / sum(counts), times each example's weight where there are weights.

        Args:
            inputs: of the step; "weights" (B,) have the mean 1 over an evaluation, 0 for copies
                that fill its last batch.
            loss: (B, ...).
            counts: as loss, what each number counts; the same sum for each example.

        Returns:
            A scalar; under `tf.distribute` this replica's share of it.
        """
        weighted = loss * counts
        if "weights" in inputs:
            weights = ops.cast(inputs["weights"], "float32")
            weighted = weighted * ops.reshape(weights, (-1,) + (1,) * (len(loss.shape) - 1))
        return share_of_replica(ops.sum(weighted) / (ops.sum(counts) + self.loss_epsilon))

    # --- files --------------------------------------------------------------------------------

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
        parts = ("backbone", "preprocessor", "masking", "decoder", "target")
        return {
            "name": self.name,
            **{part: keras.saving.serialize_keras_object(getattr(self, part)) for part in parts},
        }

    @classmethod
    def from_config(cls, config: dict) -> "MIMTask":
        """The inverse of `get_config`."""
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
