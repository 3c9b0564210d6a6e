"""Semantic segmentation on any backbone."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, fuse_adam
from mimzoo.data.label_maps import IGNORED, class_table
from mimzoo.models.flops import backbone_flops
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.arguments import refuse
from mimzoo.tasks.class_task import ClassTask, check_num_classes, make_task_class
from mimzoo.tasks.cross_entropy import fitted_loss, fitted_metrics, ignoring
from mimzoo.tasks.preprocessing import ImageConverter
from mimzoo.tasks.segmentation.confusion import MeanIoU
from mimzoo.tasks.segmentation.heads import HEADS, make_head
from mimzoo.tasks.segmentation.levels import make_neck, resized, taps
from mimzoo.tasks.segmentation.whole_images import WholeImages
from mimzoo.tasks.task import mark_built


class ImageSegmenterPreprocessor(keras_hub.models.ImageSegmenterPreprocessor):
    """Normalises images; label maps pass through."""

    @classmethod
    def for_image_shape(cls, image_shape: tuple) -> "ImageSegmenterPreprocessor":
        """A preprocessor with ImageNet's mean and std for a backbone's `image_shape`."""
        return cls(image_converter=cls.image_converter_cls(image_size=image_shape[:2]))


class ImageSegmenter(WholeImages, ClassTask, keras_hub.models.ImageSegmenter):
    """Backbone and a head that gives the logits of each pixel.

    `model(images)` takes normalised images of the backbone's size and gives (B, H, W, num_classes).
    `fit`, `evaluate` and `predict` take images of any size: training cuts out a random window of
    the backbone's size, evaluation and prediction slide that window over the image.

    Label maps (N, H, W) hold class numbers 0..num_classes-1; 255 and `ignore_index` count in no
    metric, and in no loss but one of your own; see `compile`. The default loss is the
    cross-entropy, averaged over all other pixels of a batch, plus `auxiliary_weight` times that of
    the auxiliary head.

    Args:
        backbone: a mimzoo backbone.
        num_classes: of the logits, 2 to 255.
        preprocessor: "auto": normalise as ImageNet; None: images come as the backbone wants them.
        head: "upernet" (arXiv 1807.10221), or "linear", for a backbone that is not trained.
        head_dim: channels of UPerNet's maps. Default: the width of a ViT (mmsegmentation has 768
            for ViT-B), else 512 (as for Swin) or the width of the last stage, if that is less.
        auxiliary_dim: channels of UPerNet's auxiliary head, 0 for none. Default: 256, or
            `head_dim` if that is less.
        auxiliary_weight: of its loss.
        dropout: before the classes, of UPerNet.
        ignore_index: a class number of label maps that is not learned.
        first_class: the number of class 0 in label maps that are opened by name, in which smaller
            ones mean no class, as in `mimzoo.data.open_label_maps`. Label maps in memory and
            predictions number classes from 0.
        shorter_side: images are scaled until their shorter side has as many pixels, before
            windows are cut; None: they keep their size.
        class_names: what the classes are called, in their order.
        head_dtype: of neck and head; default: the backbone's. Logits are always float32.

    Raises:
        ValueError: an unknown head, a number of classes out of range, `class_names` of another
            number, or a backbone whose maps do not make a pyramid.

    Example:
    ```python
    model = mimzoo.models.ImageSegmenter.from_preset(
        "vit_nano_mae_fmnist_20ep", num_classes=11, image_shape=(96, 96, 3)
    )
    model.fit(images, label_maps)
    label_map = model.predict(photograph[None])[0]  # of the photograph's size
    ```
    """

    reset_weights_arguments = ("num_classes", "head", "head_dim", "auxiliary_dim")

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        num_classes: int,
        preprocessor: keras.layers.Layer | str | None = "auto",
        head: str = "upernet",
        head_dim: int | None = None,
        auxiliary_dim: int | None = None,
        auxiliary_weight: float = 0.4,
        dropout: float = 0.1,
        ignore_index: int = IGNORED,
        first_class: int = 0,
        shorter_side: int | None = None,
        class_names: Sequence[str] | None = None,
        head_dtype: str | None = None,
        compile: bool = True,
        **kwargs,
    ):
        if head not in HEADS:
            raise ValueError(f"head must be one of {HEADS}, got {head!r}.")
        num_classes = check_num_classes(num_classes, 2, IGNORED)
        class_table(num_classes, first_class=first_class)  # raises
        class_names = None if class_names is None else tuple(class_names)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"class_names names {len(class_names)} classes, num_classes is {num_classes}: give "
                "as many, or None."
            )
        levels = taps(backbone)
        if not levels:
            raise ValueError(
                f"a {type(backbone).__name__} with patch_size {backbone.patch_size} gives no "
                "pyramid: take a patch size that is a power of two."
            )
        if preprocessor == "auto":
            preprocessor = self.preprocessor_cls.for_image_shape(backbone.image_shape)
        own_dtype, head_dtype = head_dtype, head_dtype or backbone.dtype_policy
        if head_dim is None:
            vit = isinstance(backbone, ViTBackbone)
            head_dim = backbone.embed_dim if vit else min(512, backbone.output_dim)
        if auxiliary_dim is None:
            auxiliary_dim = min(256, head_dim)

        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        mark_built(preprocessor)
        self.pyramid = keras.Model(backbone.input, levels, name="pyramid")
        self.neck = None if head == "linear" else make_neck(backbone, head_dtype)
        self.head = make_head(
            head,
            num_classes,
            head_dtype,
            channels=head_dim,
            auxiliary_channels=auxiliary_dim if auxiliary_weight else 0,
            dropout=dropout,
        )

        # === Functional Model ===
        inputs = backbone.input
        maps = self._maps(inputs)
        outputs = resized(self.head(maps), backbone.image_shape[:2])
        keras_hub.models.Task.__init__(
            self, inputs=inputs, outputs=outputs, compile=False, **kwargs
        )

        # === Config ===
        self.num_classes = num_classes
        self.head_kind = head
        self.head_dim = head_dim
        self.auxiliary_dim = auxiliary_dim
        self.auxiliary_weight = auxiliary_weight
        self.dropout = dropout
        self.ignore_index = ignore_index
        self.first_class = first_class
        self.shorter_side = shorter_side
        self.class_names = class_names
        self.head_dtype = own_dtype
        if compile:
            self.compile()

    # --- the step ---------------------------------------------------------------------------------

    def _maps(self, images: Tensor, training: bool | None = None) -> list[Tensor]:
        maps = self.pyramid(images, training=training)
        return maps if self.neck is None else self.neck(maps, training=training)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: object | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Logits (B, H, W, num_classes); in training, with an auxiliary head, a dict.

        Args:
            inputs: (B, H, W, C) as the backbone takes them.
            training: whether to give {"logits", "auxiliary"}: those of both heads.
            mask: unused.
        """
        (images,) = keras.tree.flatten(inputs)
        images = ops.convert_to_tensor(images, self.input.dtype)
        self.backbone.check_images(images)
        size = self.backbone.image_shape[:2]
        maps = self._maps(images, training)
        logits = resized(self.head(maps, training=training), size)
        if not training or not self._has_auxiliary:
            return logits
        return {
            "logits": logits,
            "auxiliary": resized(self.head.auxiliary(maps, training=training), size),
        }

    @property
    def _has_auxiliary(self) -> bool:
        return bool(getattr(self.head, "auxiliary_channels", 0))

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor | None = None,
        y_pred: Tensor | dict | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """The compiled loss of the logits, and of the auxiliary ones times their weight."""
        refuse({"sample_weight": sample_weight}, "image segmenters", "sample_weight")
        y = self.learned(y)
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)
        main = super().compute_loss(x, y, y_pred["logits"], sample_weight, training=training)
        second = super().compute_loss(x, y, y_pred["auxiliary"], sample_weight, training=training)
        # Both have those of layers.
        second = second - sum(ops.sum(one) for one in self.losses)
        return main + self.auxiliary_weight * second

    def compute_metrics(
        self, x: Any, y: Tensor, y_pred: Tensor | dict, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Of the logits, without pixels that are not learned."""
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        y = self.learned(y)
        return super().compute_metrics(x, y, logits, ops.cast(y != IGNORED, "int32"))

    def learned(self, y: Tensor) -> Tensor:
        """Label maps (B, H, W) int32 in which all that is not learned is 255."""
        y = ops.cast(ops.convert_to_tensor(y), "int32")
        if len(y.shape) == 4:
            y = ops.squeeze(y, axis=-1)
        return y if self.ignored == IGNORED else ops.where(y == self.ignored, IGNORED, y)

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        metrics: Any = "auto",
        weighted_metrics: Any = None,
        **kwargs,
    ) -> None:
        """`keras.Model.compile`; "auto" is Adam at 5e-5, cross-entropy and the mean IoU.

        The mean IoU (Jaccard index) is that of `keras.metrics.MeanIoU`: of each class the pixels
        that label map and prediction share over those that either has, summed over all images;
        then the mean over the classes that occur.

        `keras.losses.SparseCategoricalCrossentropy` and all metrics leave out pixels that are not
        learned; any other loss gets them as 255. Losses and metrics are computed from logits.

        Raises:
            ValueError: a loss or metric of probabilities.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(5e-5)  # KerasHub's
            fuse_adam(optimizer)
        if isinstance(loss, str) and loss == "auto":
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=IGNORED
            )
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [mean_iou(self.num_classes)]
        loss = ignoring(fitted_loss(loss, from_logits=True), IGNORED)
        # Keras gives weights, by which pixels are left out, to these alone.
        weighted = [*_listed(metrics), *_listed(weighted_metrics)]
        super().compile(
            optimizer=optimizer,
            loss=loss,
            metrics=None,
            weighted_metrics=fitted_metrics(weighted, self.num_classes, True, loss) or None,
            **kwargs,
        )

    # --- the rest ---------------------------------------------------------------------------------

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image, without the neck's."""
        return backbone_flops(self.backbone) + self.head.flops

    def preprocess(self, images: Any) -> np.ndarray:
        """Images as users have them -> float32 (B, H, W, C) as the backbone takes them."""
        images = self.preprocessor(images) if self.preprocessor is not None else images
        return super().input_rules(training=False).checked(ops.convert_to_numpy(images))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "head": self.head_kind,
            "head_dim": self.head_dim,
            "auxiliary_dim": self.auxiliary_dim,
            "auxiliary_weight": self.auxiliary_weight,
            "dropout": self.dropout,
            "ignore_index": self.ignore_index,
            "first_class": self.first_class,
            "shorter_side": self.shorter_side,
            "class_names": self.class_names,
            **self.own_dtype(),
        }


def _listed(metrics: Any) -> list[Any]:
    if isinstance(metrics, dict):
        raise ValueError("a segmenter has one output: give its metrics as a list.")
    return list(metrics) if isinstance(metrics, list | tuple) else [metrics] if metrics else []


def mean_iou(num_classes: int) -> MeanIoU:
    """The mean intersection over union of logits, without pixels of the number 255."""
    return MeanIoU(
        num_classes, name="mean_iou", dtype="float32", ignore_class=IGNORED, sparse_y_pred=False
    )


def make_segmenter(backbone_cls: type, module: str) -> type[ImageSegmenter]:
    """The classes with which KerasHub finds and stores segmenters on a backbone's class.

    Args:
        backbone_cls: `XBackbone`, which has a classifier; `XImageSegmenterPreprocessor` and
            `XImageSegmenter` are made and registered.
        module: where they are said to be.

    Returns:
        The segmenter's class.
    """
    converter = ImageConverter.for_backbone(backbone_cls)
    preprocessor = make_task_class(
        ImageSegmenterPreprocessor, backbone_cls, module, image_converter_cls=converter
    )
    return make_task_class(ImageSegmenter, backbone_cls, module, preprocessor_cls=preprocessor)
