"""The kinds of recipes: pretraining, fine-tuning, segmentation and detection."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from mimzoo.data.named_subsets import check_sampling
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.recipes.legacy import upgraded
from mimzoo_training.recipes.objects import Spec, merged


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(Recipe):
    """How a model is pretrained.

    Attributes:
        method: short name of the method, as in names: "mae".
        task: the task with its backbone, masking, decoder and target, as Keras would serialise
            them; see `keras_object`. Images' size, drop path and normalisation are the recipe's
            own fields; masks have the seed of the run, and in validation that of `task`.
        preset_dtype: type of number that the weights are stored as.
        sampling: how a named subset is drawn from its data set: "random", "stratified" or
            "filtered"; see `mimzoo.data.named_subset`.
        min_score: least score of "filtered".
    """

    kind: str = "pretrain"
    method: str
    task: Spec
    preset_dtype: str = "float32"
    sampling: str = "random"
    min_score: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.sampling, self.sampling == "filtered", self.min_score)

    @property
    def parts(self) -> set[str]:
        """Names of the task's arguments: "backbone", "masking", "decoder", "target"."""
        return set(self.task["config"])

    def part(self, name: str) -> dict[str, Any]:
        """The arguments of an object of the task."""
        return self.task["config"][name]["config"]

    def with_task(self, **changes: Any) -> Self:
        """The recipe with other arguments of its task; see `merged`. Its name stays."""
        return dataclasses.replace(self, task=merged(self.task, changes))

    def with_changes(self, **changes: Any) -> Self:
        """As in Recipe; `task` has the arguments to change: {"masking": {"mask_ratio": 0.6}}."""
        if changes.get("task"):
            changes["task"] = merged(self.task, changes["task"])
        return super().with_changes(**changes)

    def shown(self) -> dict[str, Any]:
        """What a changed name ends in -> its value."""
        return {**super().shown(), "mask": self.part("masking").get("mask_ratio")}


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(Recipe):
    """How a classifier is made of a pretrained model.

    Attributes:
        architecture: further arguments of the backbone, such as window_size.
        layer_decay: learning rate of a layer over that of the next.
        label_smoothing, mixup, cutmix, random_erasing: 0 for none.
        rand_augment: whether images go through RandAugment.
        pooling: "avg" or "token".
        head_init_std: standard deviation that the linear layer starts from.
        learned_positions: whether fixed positions are trained on (ViT only).
        ema_momentum: of the moving average of the weights; None for none.
    """

    kind: str = "finetune"
    architecture: dict[str, Any] = field(default_factory=dict)
    layer_decay: float = 0.65
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    random_erasing: float = 0.25
    rand_augment: bool = True
    pooling: str = "avg"
    head_init_std: float = 2e-5
    learned_positions: bool = True
    ema_momentum: float | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentRecipe(Recipe):
    """How a segmenter is made of a pretrained model. `image_size` is the side of a window.

    Attributes:
        architecture: further arguments of the backbone, such as window_size.
        layer_decay: learning rate of a layer over that of the next.
        head: "upernet" or "linear"; see `mimzoo.models.ImageSegmenter`.
        head_dim: channels of UPerNet; None: the segmenter's default.
        auxiliary_weight: of the auxiliary head's loss; 0 for no such head.
        dropout: before the classes.
        shorter_side: to which images are scaled, in training before `crop_scale`; None: not.
        max_share: windows are drawn again while one class has more of the pixels.
        photometric: whether brightness, contrast, saturation and hue change.
        first_class: the number of class 0 in the label maps; smaller ones are ignored.
        ignore_index: a number in the label maps that means no class; 255 always does.
        ema_momentum: of the moving average of the weights; None for none.
    """

    kind: str = "segment"
    crop: str = "scale_crop"
    crop_scale: tuple[float, float] = (0.5, 2.0)
    crop_fraction: float = 1.0
    architecture: dict[str, Any] = field(default_factory=dict)
    layer_decay: float = 0.65
    head: str = "upernet"
    head_dim: int | None = None
    auxiliary_weight: float = 0.4
    dropout: float = 0.1
    shorter_side: int | None = None
    max_share: float = 0.75
    photometric: bool = True
    first_class: int = 0
    ignore_index: int = 255
    ema_momentum: float | None = None

    @property
    def head_options(self) -> dict[str, Any]:
        """Arguments of the segmenter."""
        names = ("head", "head_dim", "auxiliary_weight", "dropout", "shorter_side")
        names += ("ignore_index", "first_class")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class DetectRecipe(Recipe):
    """How a detector is made of a pretrained model. `image_size` is the side of a window.

    Attributes:
        architecture: further arguments of the backbone, such as window_size.
        layer_decay: learning rate of a layer over that of the next.
        min_level, neck_dim, head_dim, head_depth: see `mimzoo.models.ObjectDetector`.
        photometric: whether brightness, contrast, saturation and hue change.
        ema_momentum: of the moving average of the weights; None for none.
    """

    kind: str = "detect"
    crop: str = "scale_jitter"
    crop_scale: tuple[float, float] = (0.1, 2.0)
    crop_fraction: float = 1.0
    architecture: dict[str, Any] = field(default_factory=dict)
    layer_decay: float = 0.7
    min_level: int | None = None
    neck_dim: int = 256
    head_dim: int = 256
    head_depth: int = 4
    photometric: bool = False
    ema_momentum: float | None = None

    @property
    def head_options(self) -> dict[str, Any]:
        """Arguments of the detector."""
        names = ("min_level", "neck_dim", "head_dim", "head_depth")
        return {name: getattr(self, name) for name in names}


AnyRecipe = PretrainRecipe | FinetuneRecipe | SegmentRecipe | DetectRecipe
_KINDS = {
    "pretrain": PretrainRecipe,
    "finetune": FinetuneRecipe,
    "segment": SegmentRecipe,
    "detect": DetectRecipe,
}


def recipe_from_json(data: dict) -> AnyRecipe:
    """The inverse of `Recipe.to_json`; also of what mimzoo 0.1 wrote.

    Raises:
        ValueError: fields that recipes do not have, or that are missing.
    """
    cls = _KINDS.get(data.get("kind"))
    if cls is None:
        known = ", ".join(map(repr, _KINDS))
        raise ValueError(f"a recipe's kind is one of {known}, got {data.get('kind')!r}.")
    data = upgraded(_with_tuples(data))
    try:
        return cls(**data)
    except TypeError as error:
        raise ValueError(f"this is no recipe of this version of mimzoo: {error}.") from error


def _with_tuples(data: dict) -> dict:
    """JSON's lists as tuples, also inside of other entries."""
    made = {}
    for key, value in data.items():
        if isinstance(value, dict):
            value = _with_tuples(value)
        made[key] = tuple(value) if isinstance(value, list) else value
    return made
