"""Semantic segmentation on any backbone."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, fuse_adam
from mimzoo.data.feed import Feed
from mimzoo.data.inputs import Inputs
from mimzoo.data.label_map_files import has_label_maps, open_label_maps
from mimzoo.data.label_maps import IGNORED, LabelledPictures, check_label_maps
from mimzoo.data.label_transforms import RandomScaleCrop
from mimzoo.models.cross_entropy import fitted_loss, fitted_metrics
from mimzoo.models.flops import backbone_flops
from mimzoo.models.image_classifier import ImageClassifier, make_task_class, subclasses
from mimzoo.models.inputs import TaskInputs, fed
from mimzoo.models.segmentation.confusion import Confusion
from mimzoo.models.segmentation.heads import HEADS, make_head
from mimzoo.models.segmentation.levels import make_neck, resized, taps
from mimzoo.models.segmentation.sliding import bands, upscaled
from mimzoo.models.task import PresetTask, mark_built
from mimzoo.models.vit import ViTBackbone

WINDOWS = 8  # in a forward pass of a prediction


class ImageSegmenterPreprocessor(keras_hub.models.ImageSegmenterPreprocessor):
    """Normalises images; label maps pass through."""

    @classmethod
    def for_image_shape(cls, image_shape: tuple) -> "ImageSegmenterPreprocessor":
        """A preprocessor with ImageNet's mean and std for a backbone's `image_shape`."""
        return cls(image_converter=cls.image_converter_cls(image_size=image_shape[:2]))


class ImageSegmenter(TaskInputs, PresetTask, keras_hub.models.ImageSegmenter):
    """Backbone and a head that gives the logits of each pixel.

    `model(images)` takes normalised images of the backbone's size and gives (B, H, W, num_classes).
    `fit`, `evaluate` and `predict` take images of any size: training cuts out a random window of
    the backbone's size, evaluation and prediction slide that window over the image.

    Label maps (N, H, W) hold class numbers 0..num_classes-1; 255 and `ignore_index` count in no
    loss and no metric. The default loss is the cross-entropy, averaged over all other pixels of a
    batch, plus `auxiliary_weight` times that of the auxiliary head.

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
    labelled = True
    # Of the order of images, and of the windows that are cut out.
    seed = 0

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
        shorter_side: int | None = None,
        class_names: Sequence[str] | None = None,
        head_dtype: str | None = None,
        compile: bool = True,
        **kwargs,
    ):
        if head not in HEADS:
            raise ValueError(f"head must be one of {HEADS}, got {head!r}.")
        if not 2 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must lie in 2..{IGNORED}, got {num_classes}.")
        class_names = None if class_names is None else tuple(class_names)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"class_names names {len(class_names)} classes, num_classes is {num_classes}: give "
                "as many, or None."
            )
        levels = taps(backbone)
        if head == "upernet" and len(levels) < 2:
            raise ValueError(
                f"a {type(backbone).__name__} with patch_size {backbone.patch_size} gives "
                f"{len(levels)} maps, and UPerNet needs 2 at least: take a patch size that is a "
                "power of two, or head='linear'."
            )
        if preprocessor == "auto":
            preprocessor = self.preprocessor_cls.for_image_shape(backbone.image_shape)
        head_dtype = head_dtype or backbone.dtype_policy
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
        self.shorter_side = shorter_side
        self.class_names = class_names
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
        if sample_weight is not None:
            _refuse({"sample_weight": True}, "sample_weight")
        y = self._learned(y)
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)
        main = super().compute_loss(x, y, y_pred["logits"], sample_weight, training=training)
        second = super().compute_loss(x, y, y_pred["auxiliary"], sample_weight, training=training)
        return main + self.auxiliary_weight * second

    def compute_metrics(
        self, x: Any, y: Tensor, y_pred: Tensor | dict, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Of the logits."""
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, self._learned(y), logits, sample_weight)

    def _learned(self, y: Tensor) -> Tensor:
        """Label maps (B, H, W) int32 in which all that is not learned is 255."""
        y = ops.cast(ops.convert_to_tensor(y), "int32")
        if len(y.shape) == 4:
            y = ops.squeeze(y, axis=-1)
        return y if self.ignore_index == IGNORED else ops.where(y == self.ignore_index, IGNORED, y)

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        metrics: Any = "auto",
        **kwargs,
    ) -> None:
        """`keras.Model.compile`; "auto" is Adam at 5e-5, cross-entropy and the mean IoU.

        The mean IoU (Jaccard index) is that of `keras.metrics.MeanIoU`: of each class the pixels
        that label map and prediction share over those that either has, summed over all images;
        then the mean over the classes that occur.
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
        super().compile(
            optimizer=optimizer,
            loss=fitted_loss(loss, from_logits=True),
            metrics=fitted_metrics(metrics, self.num_classes, from_logits=True),
            **kwargs,
        )

    # --- inputs -----------------------------------------------------------------------------------

    def input_rules(self, training: bool, seed: int | None = None) -> Inputs:
        """As in TaskInputs; training cuts out windows, all else takes images as they are."""
        rules = super().input_rules(training, seed)
        if not training:
            return dataclasses.replace(rules, transform=None, image_shape=None)
        if rules.raw:
            return rules
        size = self.backbone.image_shape[:2]
        window = RandomScaleCrop(size, (1.0, 1.0), self.shorter_side, max_share=1.0)
        return dataclasses.replace(rules, transform=window)

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises ValueError for label maps with a number that is no class."""
        check_label_maps(labels, self.num_classes, self.ignore_index)

    def fit(self, x: Any = None, y: Any = None, *, validation_data: Any = None, **kwargs) -> Any:
        """Trains; `keras.Model.fit` over images and label maps.

        Args:
            x: images, as an array or a list of images of any size; what
                `mimzoo.data.open_label_maps` opens, or its result; a `mimzoo.data.Loader`; or
                anything that gives batches (images, label maps) of the backbone's size.
            y: label maps of images in memory: (N, H, W) integers, or a list of (H, W).
            validation_data: (images, label maps), or what `x` may be; measured as `evaluate` does.
            **kwargs: as for classifiers; see TaskInputs.fit.

        Raises:
            ValueError: before the first step, or at the batch: images or label maps that do not
                fit; weights of examples or classes, which are not supported.
        """
        _refuse(kwargs, "sample_weight", "class_weight", "validation_split")
        if validation_data is not None:
            parts = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            steps = kwargs.pop("validation_steps", None)
            validation_data = self._whole_images(*parts, steps=steps, split="validation")
        x, y = self._joined(x, y, "train")
        return super().fit(x, y, validation_data=validation_data, **kwargs)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *,
        stride: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        steps: int | None = None,
        return_dict: bool = False,
        confusion: Confusion | None = None,
        **kwargs,
    ) -> Any:
        """Loss and metrics over whole images, predicted as `predict` does.

        Args:
            x: as in `fit`.
            y: label maps of images in memory.
            stride, batch_size, steps: as in `predict`.
            return_dict: whether to name the results.
            confusion: counts what is taken for what, for results by class.
            **kwargs: what `keras.Model.fit` passes. There is no progress bar.

        Returns:
            [loss, mean IoU], or with `return_dict` {"loss", "mean_iou"}; other metrics if compiled.
        """
        _refuse(kwargs, "sample_weight")
        feed = x if isinstance(x, Feed) else self._whole_images(x, y, steps=steps, split="any")
        self.reset_metrics()
        total, pixels, values = 0.0, 0, {}
        with fed(feed):
            for images, maps in feed:
                maps = np.asarray(ops.convert_to_numpy(self._learned(maps)))
                for first, logits in self._bands(images, stride, batch_size):
                    part = maps[:, first : first + logits.shape[1]]
                    count = int((part != IGNORED).sum())
                    loss = self.compute_loss(y=part, y_pred=logits, training=False)
                    total += float(ops.convert_to_numpy(loss)) * count
                    pixels += count
                    values = self.compute_metrics(None, part, logits)
                    if confusion is not None:
                        confusion.add(part, logits.argmax(-1))
        values = {name: float(ops.convert_to_numpy(value)) for name, value in values.items()}
        values["loss"] = total / max(pixels, 1)
        return values if return_dict else list(values.values())

    def predict(
        self,
        x: Any = None,
        *,
        stride: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        steps: int | None = None,
        verbose: Any = 0,
    ) -> np.ndarray | list[np.ndarray]:
        """The class of each pixel, whatever the images' sizes.

        The backbone's window slides over the image; logits are averaged where windows overlap. Only
        the logits of one row of windows are in memory at a time; with `shorter_side` those of the
        scaled image, which are resized to its own size.

        Args:
            x: as in `fit`, with or without label maps.
            stride: between two windows in pixels, or (rows, columns); default: half a window.
            batch_size: windows in a forward pass, default 8.
            steps: batches to read, of data without a length.
            verbose: as in `keras.Model.predict`; there is no progress bar.

        Returns:
            (N, H, W) uint8; a list of (H, W) where sizes differ.

        Raises:
            ValueError: a stride of more than a window, or images that cannot be read.
        """
        feed = self._whole_images(x, steps=steps, split="any", labelled=False)
        found: list[np.ndarray] = []
        with fed(feed):
            for images, *_ in feed:
                rows = [logits.argmax(-1) for _, logits in self._bands(images, stride, batch_size)]
                found += list(np.concatenate(rows, axis=1).astype(np.uint8))
        return np.stack(found) if len({one.shape for one in found}) == 1 else found

    def _bands(
        self, images: np.ndarray, stride: Any, batch_size: int | None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, logits (B, rows, W, classes)) of normalised images, from top to bottom."""
        window = self.backbone.image_shape[:2]
        stride = tuple(side // 2 or 1 for side in window) if stride is None else stride
        stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
        if not all(1 <= step <= side for step, side in zip(stride, window, strict=True)):
            raise ValueError(f"stride {stride} must lie in 1..{window}, the sides of a window.")
        size = images.shape[1:3]
        scaled = images
        if self.shorter_side is not None and min(size) != self.shorter_side:
            sides = [max(1, round(side * self.shorter_side / min(size))) for side in size]
            scaled = ops.image.resize(
                ops.convert_to_tensor(images), sides, antialias=True, data_format="channels_last"
            )
            scaled = ops.convert_to_numpy(scaled)

        def forward(windows: np.ndarray) -> np.ndarray:
            # KerasHub's own would preprocess once more.
            return keras.Model.predict_on_batch(self, windows)

        found = bands(scaled, forward, window, stride, batch_size or WINDOWS)
        if scaled is images:
            return found
        return upscaled(np.concatenate([logits for _, logits in found], axis=1), size)

    def _joined(self, x: Any, y: Any, split: str) -> tuple[Any, Any]:
        """Images and label maps as a source of both, where they lie in memory or are named."""
        if isinstance(x, str | os.PathLike):
            return open_label_maps(x, split, self.num_classes, ignore_index=self.ignore_index), None
        if y is None or self.preprocessor is None:
            return x, y
        converter = getattr(self.preprocessor, "image_converter", None)
        value_range = getattr(converter, "value_range", None)
        return LabelledPictures(x, y, self.num_classes, self.ignore_index, value_range), None

    def _whole_images(
        self, x: Any, y: Any = None, *, split: str, labelled: bool = True, **how: Any
    ) -> Any:
        """A feed of images of their own size, one by one unless all have the same."""
        if labelled or has_label_maps(x):
            x, y = self._joined(x, y, split)
        same = isinstance(x, np.ndarray) or hasattr(x, "images") or getattr(x, "same_size", False)
        size = WINDOWS if same else 1
        return self._evaluation_feed(x, y, batch_size=size, split=split, labelled=labelled, **how)

    # --- the rest ---------------------------------------------------------------------------------

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image, without the neck's."""
        return backbone_flops(self.backbone) + self.head.flops

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """The backbone's groups; neck and head belong to the last."""
        return self.backbone.layer_decay_scales(layer_decay)

    def preprocess(self, images: Any) -> np.ndarray:
        """Images as users have them -> float32 (B, H, W, C) as the backbone takes them."""
        images = self.preprocessor(images) if self.preprocessor is not None else images
        return super().input_rules(training=False).checked(ops.convert_to_numpy(images))

    @classmethod
    def for_backbone(cls, backbone_cls: type) -> type:
        """The segmenter registered for a backbone class."""
        for known in subclasses(cls) | {cls}:
            if known.backbone_cls is backbone_cls:
                return known
        raise ValueError(f"mimzoo has no image segmenter on {backbone_cls.__name__}.")

    @classmethod
    def adapt_config(cls, stored: dict, given: dict) -> dict:
        """Forgets stored class names where a new number of classes is given."""
        names = stored.get("class_names")
        count = given.get("num_classes", stored.get("num_classes"))
        if names is not None and "class_names" not in given and len(names) != count:
            return {**stored, "class_names": None}
        return stored

    @classmethod
    def from_config(cls, config: dict) -> "ImageSegmenter":
        """The inverse of `get_config`; names of another number of classes are forgotten."""
        # KerasHub's loader puts a new num_classes into the stored configuration.
        return super().from_config(cls.adapt_config(config, {}))

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
            "shorter_side": self.shorter_side,
            "class_names": self.class_names,
        }


def mean_iou(num_classes: int) -> keras.metrics.MeanIoU:
    """The mean intersection over union of logits, without pixels of the number 255."""
    return keras.metrics.MeanIoU(
        num_classes, name="mean_iou", dtype="int32", ignore_class=IGNORED, sparse_y_pred=False
    )


def _refuse(given: dict, *names: str) -> None:
    for name in names:
        if given.pop(name, None):
            raise ValueError(
                f"{name} is not supported by image segmenters: give a loss that weighs pixels, or "
                "another source as validation_data."
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
    converter = ImageClassifier.for_backbone(backbone_cls).preprocessor_cls.image_converter_cls
    preprocessor = make_task_class(
        ImageSegmenterPreprocessor, backbone_cls, module, image_converter_cls=converter
    )
    return make_task_class(ImageSegmenter, backbone_cls, module, preprocessor_cls=preprocessor)
