"""Features of a teacher as a target: a frozen one, or one that follows the student."""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Constant, Tensor, no_gradient
from mimzoo.data.normalize import check_statistics
from mimzoo.layers.resize import image_matrix
from mimzoo.pretraining import teachers
from mimzoo.pretraining.ema import EMA, FollowingTeacher, Teacher
from mimzoo.pretraining.feature_pictures import principal_colours
from mimzoo.pretraining.targets import WHERE, Step, Target

FEATURE_LOSSES = ("smooth_l1", "mse", "cosine")
EPSILON = 1e-5  # of torch.nn.functional.layer_norm, which data2vec and FD call


@keras.saving.register_keras_serializable(package="mimzoo")
class FeatureTarget(Target):
    """What a teacher makes of the whole image, at each position of the student.

    The rules, in their order:

    1. Images are resized to the teacher's size (antialiased bicubic), and get the teacher's mean
       and std in place of the student's. Without a preprocessor the task does not know its
       images' mean and std: they are then taken to be the teacher's.
    2. The teacher runs once, for inference, in `dtype`. From here on all is float32.
    3. Class and register tokens, which stand in front of the patches, are dropped.
    4. With `layer_norm` each token of each layer is normalised over its features, without weights,
       epsilon 1e-5 (data2vec, arXiv 2202.03555, section 3.3, and data2vec_vision.py,
       `layer_norm_target_layer`; Feature Distillation, arXiv 2205.14141, whitening).
    5. Several layers: their mean (data2vec, the same section).
    6. The teacher's grid is brought to the student's: the same grid as it is; where its sides are
       whole multiples, by the mean over the tokens inside a position; anything else is an error
       that names sizes that fit. The rule is ours.

    Losses are means over the D features of a position: "smooth_l1" is error² / (2 beta) up to
    `beta` and |error| - beta / 2 from there on (data2vec, section 3.3; beta is 2 in Feature
    Distillation); "mse"; "cosine" is 1 - cosine similarity (EVA, arXiv 2211.07636, section 2.1,
    plus 1).

    A task's preset and checkpoints do not hold a frozen teacher: they hold its name and the sha256
    of its weights. Loading the task finds it again by that name and compares. A teacher that was
    given as a model has no name: give it again, `MAE.from_preset(..., target=FeatureTarget(teacher,
    ...))`, and the task's own weights are kept if the digest and the options are the same.

    Args:
        teacher: a preset's name, folder or hf:// handle, of mimzoo or KerasHub (whose kaggle://
            handles work, too), or a backbone of either as an object, of which a copy is kept.
            A CLIP gives its vision encoder. Or `EMA(...)`: a copy of the student that follows it.
        layers: numbers of the blocks whose outputs are used, from 0, or from -1 backwards. Default:
            the backbone's output, with its final norm if it has one.
        layer_norm: rule 4.
        loss: "smooth_l1", "mse" or "cosine".
        beta: of "smooth_l1".
        loss_on: "masked": hidden positions only; "all": every one counts alike.
        dtype: the precision policy of a frozen teacher; one that follows has the student's.
        image_size: side or (height, width) of the teacher's images in pixels, for a teacher given
            by name. Default: the preset's.
        mean, std: that the teacher's images have, of pixels in 0..1. Default: what the preset's
            image converter has, else ImageNet's.
        digest: sha256 that the teacher has to have. Default: any; the config records it.

    Raises:
        ValueError: an unknown option. When a task is built: a teacher that cannot be found or has
            another digest, layers it does not have, a grid that cannot be aligned.

    Example:
    ```python
    target = FeatureTarget("dinov2_base", layers=range(6, 12), image_size=196)
    task = mimzoo.pretraining.MAE(mimzoo.models.ViTBackbone.from_size("base"), target=target)
    ```
    """

    def __init__(
        self,
        teacher: str | keras.Model | EMA | None,
        layers: int | Sequence[int] | None = None,
        layer_norm: bool = True,
        loss: str = "smooth_l1",
        beta: float = 2.0,
        loss_on: str = "masked",
        dtype: str = "mixed_bfloat16",
        image_size: int | tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        digest: str | None = None,
    ):
        for name, value, known in (("loss", loss, FEATURE_LOSSES), ("loss_on", loss_on, WHERE)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
        if beta <= 0:
            raise ValueError(f"beta must be positive, got {beta}: for the plain square use 'mse'.")
        if (mean is None) != (std is None):
            raise ValueError("mean and std go together: give both, or neither.")
        if mean is not None:
            check_statistics(mean, std)
        given = isinstance(teacher, keras.Model)
        self.ema = teacher if isinstance(teacher, EMA) else None
        if (given or self.ema) and image_size is not None:
            raise ValueError(
                "image_size is for a teacher given by name: build the model for that size."
            )
        self.name = None if given or self.ema else teacher
        self.layers = [layers] if isinstance(layers, int) else layers and list(layers)
        self.layer_norm = layer_norm
        self.loss_name = loss
        self.beta = float(beta)
        self.loss_on = loss_on
        self.dtype = dtype
        self.image_size = (image_size,) * 2 if isinstance(image_size, int) else image_size
        self.teacher_normalization = None if mean is None else (tuple(mean), tuple(std))
        self.digest = digest
        self.backbone: keras.Model | None = None
        self.model: keras.Model | None = None
        self._from_student: tuple[Constant, Constant] | None = None
        if given:
            self._use(teacher)

    def load(self) -> None:
        """Finds the teacher, unless it is there; a task calls it when it is built.

        Raises:
            ValueError: it cannot be found, or its weights have another digest.
        """
        if self.model is not None:
            return
        if self.name is None:
            raise ValueError(
                "this target's teacher was given as a model and is in no file: give it again, "
                "with target=FeatureTarget(teacher, ...) to from_preset."
            )
        shape = None if self.image_size is None else (*self.image_size, 3)
        self._use(teachers.find_teacher(self.name, shape))

    def _use(self, backbone: keras.Model) -> None:
        digest = teachers.weights_digest(backbone)
        if self.digest not in (None, digest):
            raise ValueError(
                f"the teacher {self.name or backbone.name!r} has other weights than the one that "
                f"this target was made with (sha256 {digest[:12]}…, not {self.digest[:12]}…): "
                "give that one, or leave out `digest` to take this one."
            )
        if self.teacher_normalization is None:
            found = teachers.find_normalization(self.name) if self.name else None
            self.teacher_normalization = found or teachers.DEFAULT_NORMALIZATION
        self.backbone = teachers.frozen_copy(backbone, self.dtype)
        self.model = teachers.feature_model(self.backbone, self.layers)
        self.digest = digest
        self.teacher = Teacher(self.model.weights)

    def build(self, task: Any) -> None:
        """Loads or makes the teacher; raises ValueError where it does not fit. See Target."""
        super().build(task)
        if self.ema is not None:
            self._follow(task.backbone)
        self.load()
        self._from_student = None
        known = self.normalization != ((), ()) and self.teacher_normalization is not None
        if known and self.normalization != self.teacher_normalization:
            (own_mean, own_std), (mean, std) = np.float64(
                [self.normalization, self.teacher_normalization]
            )
            self._from_student = tuple(
                Constant(np.float32(x)) for x in (own_std / std, (own_mean - mean) / std)
            )
        image_shape = task.backbone.image_shape
        channels = self.model.inputs[0].shape[-1]
        if channels != image_shape[-1]:
            raise ValueError(
                f"the teacher takes images of {channels} channels, the task's have "
                f"{image_shape[-1]}: use a backbone with image_shape=(H, W, {channels})."
            )
        self._pooling(image_shape[:2], task.prediction_stride)

    def _follow(self, student: keras.Model) -> None:
        if self.teacher is not None:
            raise ValueError(
                "this target's teacher follows the student of another task: make a target for "
                "each task."
            )
        policy = student.dtype_policy
        if policy.variable_dtype in ("bfloat16", "float16"):
            # A step of the teacher is smaller than what 16 bits can hold.
            policy = keras.DTypePolicy(f"mixed_{policy.variable_dtype}")
        self.backbone = teachers.frozen_copy(student, policy)
        self.model = teachers.feature_model(self.backbone, self.layers)
        self.teacher = FollowingTeacher(self.backbone, self.ema)

    def size(self, stride: int, channels: int) -> int:
        """Features of the teacher, whatever the stride."""
        self.load()
        return self.model.outputs[0].shape[-1]

    def targets(self, step: Step) -> Tensor:
        """What predictions are compared with: (B, N, D) float32."""
        down, across = self._pooling(step.images.shape[1:3], step.stride)
        graphs = nullcontext() if step.task is None else step.task.graphs.active()
        with no_gradient(), graphs:
            x = ops.stop_gradient(self.features(step.images))
            _, rows, cols, width = x.shape
            rows, cols = rows // down, cols // across
            if down * across > 1:
                x = ops.reshape(x, (-1, rows, down, cols, across, width))
                x = ops.mean(x, axis=(2, 4))
            return ops.reshape(x, (-1, rows * cols, width))

    def features(self, images: Tensor) -> Tensor:
        """Rules 1 to 5: (B, H, W, C) -> the teacher's own grid, (B, rows, cols, D) float32."""
        maps = self.model(self._to_teacher(images), training=False)
        maps = [ops.cast(x, "float32") for x in (maps if isinstance(maps, list) else [maps])]
        if self.layer_norm:
            maps = [normalize(x) for x in maps]
        return sum(maps[1:], maps[0]) / len(maps)

    def _to_teacher(self, images: Tensor) -> Tensor:
        images = ops.cast(images, "float32")
        old, new = images.shape[1:3], self.model.inputs[0].shape[1:3]
        for axis in (0, 1):
            if old[axis] != new[axis]:
                matrix = _resize_constant(old[axis], new[axis])(images)
                equation = "oh,bhwc->bowc" if axis == 0 else "ow,bhwc->bhoc"
                images = ops.einsum(equation, matrix, images)
        if self._from_student is None:
            return images
        scale, shift = (constant(images) for constant in self._from_student)
        return images * scale + shift

    def _pooling(self, sides: Sequence[int], stride: int) -> tuple[int, int]:
        """Rows and columns of the teacher's tokens in a cell of the student."""
        student = tuple(side // stride for side in sides)
        theirs = tuple(self.model.outputs[0].shape[1:3])
        if any(t % s for t, s in zip(theirs, student, strict=True)):
            height, width = self.model.inputs[0].shape[1:3]
            patch = height // theirs[0], width // theirs[1]
            fit = [max(round(t / s), 1) * s for t, s in zip(theirs, student, strict=True)]
            raise ValueError(
                f"the teacher's grid of {theirs[0]}x{theirs[1]} cannot be aligned with the "
                f"student's of {student[0]}x{student[1]}: give the teacher images of "
                f"{fit[0] * patch[0]}x{fit[1] * patch[1]} pixels (image_size), or the student "
                f"images of {theirs[0] * stride}x{theirs[1] * stride}."
            )
        return tuple(t // s for t, s in zip(theirs, student, strict=True))

    def error(self, targets: Tensor, predictions: Tensor) -> Tensor:
        """Error of each position, float32: (..., N, D) both -> (..., N)."""
        if self.loss_name == "cosine":
            return 1.0 - ops.sum(_unit(predictions) * _unit(targets), axis=-1)
        error = predictions - targets
        if self.loss_name == "mse":
            return ops.mean(ops.square(error), axis=-1)
        size = ops.abs(error)
        near, far = ops.square(error) * (0.5 / self.beta), size - 0.5 * self.beta
        return ops.mean(ops.where(size < self.beta, near, far), axis=-1)

    def pictures(self, step: Step, predictions: Tensor) -> np.ndarray:
        """Predictions in colours (B, H, W, 3), in the scale of the images.

        Red, green and blue are the first three principal components of the targets of all these
        images; what the targets' 2nd to 98th percentile spans is 0 to 1.
        """
        targets = []
        for i in range(0, len(step.images), 32):
            part = ops.convert_to_tensor(step.images[i : i + 32])
            targets.append(ops.convert_to_numpy(self.targets(Step(part, step.stride))))
        colours = principal_colours(np.concatenate(targets), ops.convert_to_numpy(predictions))
        positions = colours.reshape(-1, *step.grid, 3)
        positions = positions.repeat(step.stride, axis=1).repeat(step.stride, axis=2)
        return self.in_scale_of_images(positions)

    def is_same(self, other: Any) -> bool:
        """Whether another target predicts the same: weights and options, not the name."""
        if not isinstance(other, FeatureTarget):
            return False
        if self.ema is None:
            self.load()
        own, theirs = ({**x.get_config(), "teacher": None} for x in (self, other))
        return own == theirs

    def get_config(self) -> dict:
        """The constructor's arguments; the teacher by its name, None where it was a model."""
        mean, std = self.teacher_normalization or (None, None)
        following = self.ema and keras.saving.serialize_keras_object(self.ema)
        return {
            "teacher": following or self.name,
            "layers": self.layers,
            "layer_norm": self.layer_norm,
            "loss": self.loss_name,
            "beta": self.beta,
            "loss_on": self.loss_on,
            "dtype": self.dtype,
            "image_size": self.image_size and list(self.image_size),
            "mean": mean and list(mean),
            "std": std and list(std),
            "digest": self.digest,
        }

    @classmethod
    def from_config(cls, config: dict) -> "FeatureTarget":
        """The inverse of `get_config`; also of that of mimzoo 0.1, which called `loss_on` `on`."""
        config = {("loss_on" if name == "on" else name): v for name, v in config.items()}
        return cls(
            **{**config, "teacher": keras.saving.deserialize_keras_object(config["teacher"])}
        )


@functools.cache
def _resize_constant(old: int, new: int) -> Constant:
    return Constant(image_matrix(old, new))


def normalize(x: Tensor, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Mean 0 and variance 1 along some axes, without weights: LayerNorm along the last."""
    mean = ops.mean(x, axis=axis, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=axis, keepdims=True)
    return (x - mean) * ops.rsqrt(variance + EPSILON)


def _unit(x: Tensor) -> Tensor:
    """Over its L2 norm; the epsilon keeps the gradient of a zero vector finite."""
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)
