"""The two kinds of recipes: pretraining and fine-tuning."""

from dataclasses import dataclass, field
from typing import Any

from mimzoo.data.named_subsets import check_sampling
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.recipes.targets import check_target


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(Recipe):
    """How a model is pretrained.

    Attributes:
        method: "mae", "simmim" or "mixmim".
        patch_size: side of a patch in pixels.
        mask_ratio: hidden share of the patches or cells; of MixMIM's, those of the partner.
        mask_patch_size: side of a cell in pixels; None: the patch.
        mask_sharing: MixMIM only: "pair" or "batch", see MixMasking. Validation has a mask a pair.
        mask_ratio_range: MixMIM only: how much larger a mask's ratio may be.
        mixing_embedding: MixMIM only: whether tokens are told which image they are from.
        target: "normalized_patches" (MAE, MixMIM), "pixels" (SimMIM), "sliding_window" (the
            data-scaling paper's code), "hog" (MaskFeat) or "features" of a teacher.
        target_window: side of that window in pixels.
        target_options: further arguments of HOGTarget or FeatureTarget, such as teacher, layers.
        loss: "mse" or "l1"; of features "smooth_l1", "mse" or "cosine".
        decoder_dim, decoder_depth, decoder_heads: of MAE's and MixMIM's decoder; None for SimMIM,
            which has one linear layer.
        preset_dtype: type of number that the weights are stored as.
        sampling: how a named subset is drawn from its data set: "random", "stratified" or
            "filtered"; see `mimzoo.data.named_subset`.
        min_score: least score of "filtered".
    """

    kind: str = "pretrain"
    method: str = "mae"
    patch_size: int = 16
    mask_ratio: float = 0.75
    mask_patch_size: int | None = None
    mask_sharing: str | None = None
    mask_ratio_range: float = 0.0
    mixing_embedding: bool = False
    target: str = "normalized_patches"
    target_window: int | None = None
    target_options: dict[str, Any] = field(default_factory=dict)
    loss: str = "mse"
    decoder_dim: int | None = 512
    decoder_depth: int | None = 8
    decoder_heads: int | None = 16
    preset_dtype: str = "float32"
    sampling: str = "random"
    min_score: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_target(self.target, self.target_window, self.loss, self.target_options)
        check_sampling(self.sampling, self.sampling == "filtered", self.min_score)
        mixed = self.mask_sharing is not None
        if (self.method == "mixmim") != mixed:
            raise ValueError("mask_sharing is for the method 'mixmim', which needs it.")
        if not mixed and (self.mask_ratio_range or self.mixing_embedding):
            raise ValueError("mask_ratio_range and mixing_embedding are for the method 'mixmim'.")
        if mixed and self.batch_size % 2:
            raise ValueError(f"MixMIM mixes neighbours: batch_size {self.batch_size} must be even.")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(Recipe):
    """How a classifier is made of a pretrained model.

    Attributes:
        layer_decay: learning rate of a layer over that of the next.
        label_smoothing, mixup, cutmix, random_erasing: 0 for none.
        rand_augment: whether images go through RandAugment.
        pooling: "avg" or "token".
        head_init_std: deviation that the linear layer starts from.
        learned_positions: whether fixed positions are trained on (ViT only).
        ema_momentum: of the moving average of the weights; None for none.
    """

    kind: str = "finetune"
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


def recipe_from_json(data: dict) -> PretrainRecipe | FinetuneRecipe:
    """The inverse of `Recipe.to_json`.

    Raises:
        ValueError: fields that recipes do not have, or that are missing.
    """
    cls = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}.get(data.get("kind"))
    if cls is None:
        raise ValueError(f"a recipe's kind is 'pretrain' or 'finetune', got {data.get('kind')!r}.")
    data = _with_tuples(data)
    try:
        return cls(**data)
    except TypeError as error:
        raise ValueError(f"this is no recipe of this version of mimzoo: {error}.") from error


def _with_tuples(data: dict) -> dict:
    """JSON's lists as tuples, also inside of `architecture`."""
    made = {}
    for key, value in data.items():
        if isinstance(value, dict):
            value = _with_tuples(value)
        made[key] = tuple(value) if isinstance(value, list) else value
    return made
