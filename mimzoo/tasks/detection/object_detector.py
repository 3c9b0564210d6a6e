"""Object detection on any backbone."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, fuse_adam
from mimzoo.models.flops import backbone_flops
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.arguments import refuse
from mimzoo.tasks.class_task import ClassTask, check_num_classes, make_task_class
from mimzoo.tasks.cross_entropy import fitted_loss, summed
from mimzoo.tasks.detection.anchors import IGNORED, Anchors, anchor_boxes
from mimzoo.tasks.detection.heads import BoxHead
from mimzoo.tasks.detection.inputs import BoxInputs
from mimzoo.tasks.detection.levels import chosen_levels, given_levels
from mimzoo.tasks.detection.necks import CoarserLevels, SimpleFeaturePyramid, TopDownPyramid
from mimzoo.tasks.detection.preprocessor import ObjectDetectorPreprocessor
from mimzoo.tasks.maps import LevelNorms
from mimzoo.tasks.preprocessing import ImageConverter
from mimzoo.tasks.task import mark_built

PRIOR = 0.01  # arXiv 1708.02002, section 4.1
_SIZES = ("num_classes", "min_level", "max_level", "neck_dim", "head_dim", "head_depth")


class ObjectDetector(BoxInputs, ClassTask, keras_hub.models.ObjectDetector):
    """RetinaNet on a backbone: a pyramid of maps, and two heads with numbers for every anchor.

    Lin et al., arXiv 1708.02002. On a ViT the maps are ViTDet's simple feature pyramid (arXiv
    2203.16527), on a backbone with stages those of a feature pyramid network (arXiv 1612.03144);
    coarser ones follow by convolutions of stride 2.

    `model(images)` takes normalised images of the backbone's size and gives {"bbox_regression":
    (B, A, 4), "cls_logits": (B, A, num_classes)} for A anchors, float32. `fit`, `evaluate` and
    `predict` take images of any size, and boxes x1, y1, x2, y2 in pixels of their image. There are
    no instance masks.

    The loss is torchvision's: focal loss of the classes (alpha 0.25, gamma 2), and the absolute
    error of the boxes, both summed and divided by the number of anchors with an object.

    Args:
        backbone: a mimzoo backbone.
        num_classes: of the logits, without background.
        preprocessor: "auto": resize to fit, normalise as ImageNet; None: images come as the
            backbone wants them.
        min_level: of the finest map, which has a place every 2^min_level pixels. Default: the
            second that the backbone gives; 3 for patches of 16 pixels, or of 4 in Swin.
        max_level: of the coarsest map. Default: four more, but none whose anchors are larger than
            the image.
        neck_dim: channels of the maps.
        head_dim: channels of the heads.
        head_depth: convolutions of a head before the last.
        class_names: what the classes are called, in their order.
        head_dtype: of neck and heads; default: the backbone's. Their results are float32.

    Raises:
        ValueError: no classes, `class_names` of another number, or levels that the backbone does
            not give.

    Example:
    ```python
    model = mimzoo.models.ObjectDetector.from_preset(
        "vit_nano_mae_fmnist_20ep", num_classes=3, image_shape=(96, 128, 3)
    )
    model.fit(images, {"boxes": boxes, "labels": labels})
    model.predict(photograph[None])[0]  # {"boxes": …, "labels": …, "confidence": …}
    ```
    """

    reset_weights_arguments = _SIZES

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        num_classes: int,
        preprocessor: keras.layers.Layer | str | None = "auto",
        min_level: int | None = None,
        max_level: int | None = None,
        neck_dim: int = 256,
        head_dim: int = 256,
        head_depth: int = 4,
        class_names: Sequence[str] | None = None,
        head_dtype: str | None = None,
        compile: bool = True,
        **kwargs,
    ):
        num_classes = check_num_classes(num_classes)
        class_names = None if class_names is None else tuple(class_names)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"class_names names {len(class_names)} classes, num_classes is {num_classes}: give "
                "as many, or None."
            )
        levels = chosen_levels(backbone, min_level, max_level)
        if preprocessor == "auto":
            preprocessor = self.preprocessor_cls.for_image_shape(backbone.image_shape)
        shared = {"dtype": head_dtype or backbone.dtype_policy}
        head = {"channels": head_dim, "depth": head_depth, **shared}

        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        mark_built(preprocessor)
        given = [level for level in levels if level in given_levels(backbone)]
        if isinstance(backbone, ViTBackbone):
            powers = [backbone.patch_size.bit_length() - 1 - level for level in given]
            self.pyramid = self.level_norms = None
            self.neck = SimpleFeaturePyramid(neck_dim, powers, **shared, name="neck")
        else:
            maps = {f"P{level}": backbone.pyramid_outputs[f"P{level}"] for level in given}
            self.pyramid = keras.Model(backbone.input, maps, name="pyramid")
            # The last stage has a norm of its own, if the backbone has a final one.
            last = given[-1] == given_levels(backbone)[-1] and backbone.final_norm
            self.level_norms = LevelNorms(
                len(given) - bool(last), backbone.layer_norm_epsilon, **shared, name="norms"
            )
            self.neck = TopDownPyramid(neck_dim, **shared, name="neck")
        self.coarser = CoarserLevels(len(levels) - len(given), **shared, name="coarser")
        self.box_head = BoxHead(4, **head, name="box_head")
        self.classification_head = BoxHead(
            num_classes, **head, prior=PRIOR, name="classification_head"
        )
        self.anchors = Anchors(anchor_boxes(backbone.image_shape, levels))

        # === Functional Model ===
        inputs = backbone.input
        keras_hub.models.Task.__init__(
            self, inputs=inputs, outputs=self._forward(inputs), compile=False, **kwargs
        )

        # === Config ===
        self.num_classes = num_classes
        # As chosen: a preset keeps its maps at another image_shape.
        self.min_level, self.max_level = levels[0], levels[-1]
        self.neck_dim = neck_dim
        self.head_dim = head_dim
        self.head_depth = head_depth
        self.class_names = class_names
        self.head_dtype = head_dtype
        if compile:
            self.compile()

    # --- the step ---------------------------------------------------------------------------------

    def _forward(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        if self.pyramid is None:
            tokens = self.backbone(images, training=training)
            maps = self.neck(self.backbone.feature_map(tokens))
        else:
            levels = self.pyramid(images, training=training)
            maps = self.neck(self.level_norms([levels[name] for name in sorted(levels)]))
        maps = self.coarser(maps)
        return {
            "bbox_regression": self.box_head(maps),
            "cls_logits": self.classification_head(maps),
        }

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: object | None = None
    ) -> dict[str, Tensor]:
        """Numbers for every anchor: {"bbox_regression": (B, A, 4), "cls_logits": (B, A, classes)}.

        Args:
            inputs: (B, H, W, C) as the backbone takes them.
            training: whether paths are dropped.
            mask: unused.
        """
        (images,) = keras.tree.flatten(inputs)
        images = ops.convert_to_tensor(images, self.input.dtype)
        self.backbone.check_images(images)
        return self._forward(images, training)

    def compute_loss(
        self,
        x: Any = None,
        y: dict[str, Tensor] | None = None,
        y_pred: dict[str, Tensor] | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """The compiled losses, over the anchors that are learned.

        Args:
            x: unused.
            y: {"boxes": (B, N, 4), "labels": (B, N)}; see `fit`. An image may have no object.
            y_pred: what `call` gives.
            sample_weight: has to be None.
            training: of `keras.Model.compute_loss`.
        """
        refuse({"sample_weight": sample_weight}, "object detectors", "sample_weight")
        deltas, classes = self.anchors.targets(y["boxes"], y["labels"])
        positive = ops.cast(classes >= 0, "float32")
        count = ops.maximum(ops.sum(positive), 1.0)
        learned = ops.cast(classes != IGNORED, "float32")
        # Keras' losses are means over the last axis.
        return keras.Model.compute_loss(
            self,
            x,
            {
                "bbox_regression": deltas,
                "cls_logits": ops.cast(
                    classes[..., None] == ops.arange(self.num_classes, dtype=classes.dtype),
                    "float32",
                ),
            },
            y_pred,
            {
                "bbox_regression": positive * 4 / count,
                "cls_logits": learned * self.num_classes / count,
            },
            training=training,
        )

    def compile(
        self,
        optimizer: Any = "auto",
        box_loss: Any = "auto",
        classification_loss: Any = "auto",
        *,
        loss: dict | None = None,
        **kwargs,
    ) -> None:
        """`keras.Model.compile`; "auto" is Adam at 5e-5 and the losses that the class names.

        Args:
            optimizer: as in Keras.
            box_loss: of offsets (B, A, 4); its `reduction` becomes "sum".
            classification_loss: of logits (B, A, num_classes), likewise.
            loss: {"bbox_regression": …, "cls_logits": …} in place of the two.
            **kwargs: of `keras.Model.compile`, but metrics.

        Raises:
            ValueError: metrics, which detectors do not have, or a function as a loss.
        """
        if any(kwargs.pop(name, None) for name in ("metrics", "weighted_metrics")):
            raise ValueError(
                "object detectors have no metrics in training: measure what `predict` finds with "
                "mimzoo.tasks.detection.AveragePrecision."
            )
        if loss is not None:
            box_loss, classification_loss = loss["bbox_regression"], loss["cls_logits"]
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(5e-5)  # KerasHub's
            fuse_adam(optimizer)
        if isinstance(box_loss, str) and box_loss == "auto":
            box_loss = keras.losses.MeanAbsoluteError(reduction="sum")
        if isinstance(classification_loss, str) and classification_loss == "auto":
            classification_loss = keras.losses.BinaryFocalCrossentropy(
                apply_class_balancing=True, from_logits=True, reduction="sum"
            )
        # Sums: `compute_loss` divides them by the number of objects.
        super().compile(
            optimizer=optimizer,
            box_loss=summed(box_loss),
            classification_loss=summed(fitted_loss(classification_loss, from_logits=True)),
            **kwargs,
        )

    # --- the rest ---------------------------------------------------------------------------------

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image, without the neck's."""
        heads = self.box_head.flops + self.classification_head.flops
        return backbone_flops(self.backbone) + heads

    def preprocess(self, images: Any) -> np.ndarray:
        """Images as users have them -> float32 (B, H, W, C) as the backbone takes them."""
        images = self.preprocessor(images) if self.preprocessor is not None else images
        return self.input_rules(training=False).checked(ops.convert_to_numpy(images))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {name: getattr(self, name) for name in (*_SIZES, "class_names")}
        return {**super().get_config(), **own, **self.own_dtype()}


def make_detector(backbone_cls: type, module: str) -> type[ObjectDetector]:
    """The classes with which KerasHub finds and stores detectors on a backbone's class.

    Args:
        backbone_cls: `XBackbone`, which has a classifier; `XObjectDetectorPreprocessor` and
            `XObjectDetector` are made and registered.
        module: where they are said to be.

    Returns:
        The detector's class.
    """
    converter = ImageConverter.for_backbone(backbone_cls)
    preprocessor = make_task_class(
        ObjectDetectorPreprocessor, backbone_cls, module, image_converter_cls=converter
    )
    return make_task_class(ObjectDetector, backbone_cls, module, preprocessor_cls=preprocessor)
