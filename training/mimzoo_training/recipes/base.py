"""What a recipe is: a frozen dataclass that a function makes, and JSON keeps."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Self

from mimzoo import run_length
from mimzoo.data.normalize import IMAGENET_MEAN, IMAGENET_STD

CROPS = ("random_resized_crop", "crop_pad", "scale_crop", "scale_jitter")
SCHEDULES = ("cosine", "multistep", "linear")
# Shortened runs keep the warm-up, unless it would take more than this share of the run.
MAX_WARMUP = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What pretraining and fine-tuning share.

    Attributes:
        name: <backbone>_<size>_<method>_<data>_<length>, the method left out where it is called
            as the backbone; of fine-tuning <backbone>_<size>_<method>_finetune_<data>_<pixels>.
        kind: "pretrain", "finetune", "segment" or "detect".
        backbone: short name of the backbone's class, as in names: "vit", "swinv2".
        size: of the backbone: nano, tiny, small, base, large, huge, giant.
        data: short name of the data set.
        num_examples: images in its training part, by which a run knows whether it has that set.
        image_size: side in pixels.
        length: "100ep", "5000it", "125k" (thousand steps) or "1e6img".
        batch_size: images in a step, over all devices.
        base_learning_rate: at a batch of `learning_rate_batch`, in proportion to which it is
            scaled to `batch_size`.
        learning_rate_batch: 256 in MAE and MixMIM, 512 in SimMIM.
        initial_learning_rate: at step 0 of the warm-up, not scaled.
        final_learning_rate: at the end of the half-cosine, not scaled.
        schedule: "cosine": half a cosine; "multistep": a tenth from `milestone` on; "linear":
            a line to `final_learning_rate`.
        milestone: share of the run, for "multistep".
        warmup: a length, or a share of the run such as "5%".
        beta_1, beta_2, weight_decay: of AdamW; 1-D weights and biases are not decayed.
        no_weight_decay: regexes of weights that are not decayed either, where there are such.
        drop_path_rate: of the last block.
        crop: "random_resized_crop"; "crop_pad": pad and cut out, for small images; "scale_crop":
            scale and cut out a window, of segmentation; "scale_jitter": likewise, of detection.
        crop_scale: least and greatest share of the area, for "random_resized_crop"; least and
            greatest factor of the sides, for "scale_crop"; of the largest image that fits into
            the window, for "scale_jitter".
        crop_padding: pixels on each side, for "crop_pad".
        flip: probability of the mirror image.
        crop_fraction: for evaluation, image_size / the resized shorter side.
        mean, std: of each channel, of pixels in 0..1.
        clip_norm: greatest norm of the whole gradient; None for none.
        seed: of weights, order, augmentation and masks.
        origin: who set the values, and where they are published.
        inferred: name of a field that was not published -> the rule that gave it. What is in
            `task` has a dot: "masking.mask_ratio".
    """

    name: str
    kind: str
    size: str
    data: str
    num_examples: int
    image_size: int
    length: str
    batch_size: int
    base_learning_rate: float
    warmup: str
    beta_2: float
    origin: str
    backbone: str = "vit"
    beta_1: float = 0.9
    weight_decay: float = 0.05
    no_weight_decay: tuple[str, ...] = ()
    learning_rate_batch: int = 256
    initial_learning_rate: float = 0.0
    final_learning_rate: float = 0.0
    schedule: str = "cosine"
    milestone: float | None = None
    drop_path_rate: float = 0.0
    crop: str = "random_resized_crop"
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_padding: int = 0
    flip: float = 0.5
    crop_fraction: float = 224 / 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    clip_norm: float | None = None
    seed: int = 0
    inferred: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"crop must be one of {', '.join(CROPS)}, got {self.crop!r}.")
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}."
            )
        if (self.schedule == "multistep") != (self.milestone is not None):
            raise ValueError("milestone is for the schedule 'multistep', which needs it.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        known = {f.name for f in dataclasses.fields(self)} | self.parts
        unknown = {name for name in self.inferred if name.partition(".")[0] not in known}
        if unknown:
            raise ValueError(f"inferred names no field of a recipe: {', '.join(sorted(unknown))}.")

    @property
    def parts(self) -> set[str]:
        """Names of the objects that a recipe has beside its fields."""
        return set()

    @property
    def peak_learning_rate(self) -> float:
        """base_learning_rate times batch / learning_rate_batch."""
        return run_length.scaled_learning_rate(
            self.base_learning_rate, self.batch_size, self.learning_rate_batch
        )

    def steps(self, num_examples: int) -> tuple[int, int]:
        """(all steps, warm-up steps) on a data set of `num_examples` images.

        Raises:
            ValueError: the length is less than one step.
        """
        total = run_length.steps(self.length, self.batch_size, num_examples)
        if total < 1:
            raise ValueError(
                f"{self.length} of {num_examples} images at batch {self.batch_size} is less than "
                "one step: give a greater length or a smaller batch."
            )
        if self.warmup.endswith("%"):
            return total, int(total * float(self.warmup[:-1]) / 100)
        return total, run_length.steps(self.warmup, self.batch_size, num_examples)

    def to_json(self) -> dict:
        """Plain JSON types; `recipe_from_json` is the inverse."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    # --- changes, which show in the name --------------------------------------------------------

    def with_length(self, length: str) -> Self:
        """The recipe at another length; a warm-up of more than a tenth of it is cut to that."""
        if length == self.length:
            return self
        warmup, inferred = self.warmup, dict(self.inferred)
        if not warmup.endswith("%") and not _within(warmup, length, MAX_WARMUP):
            warmup = f"{MAX_WARMUP * 100:g}%"
            inferred["warmup"] = f"the warm-up of {self.warmup} is cut to a tenth of the run"
        inferred["length"] = f"set for this run; the recipe {self.name} has {self.length}"
        return self._changed(length=length, warmup=warmup, inferred=inferred)

    def scaled(self, share: float, num_examples: int | None = None) -> Self:
        """The recipe at a share of its length, in steps, which its name says: for a trial.

        Args:
            share: in (0, 1].
            num_examples: images that the run has; default: the recipe's.

        Raises:
            ValueError: a share outside (0, 1], or one of less than one step.
        """
        check_share(share)
        if share == 1:
            return self
        total, _ = self.steps(num_examples or self.num_examples)
        if not int(total * share):
            raise ValueError(f"a share of {share} of {total} steps is less than one step.")
        return self.with_length(f"{int(total * share)}it")

    def with_changes(self, **changes: Any) -> Self:
        """The recipe with other values of fields, which show in its name and in `inferred`.

        Raises:
            ValueError: a recipe of another kind, which has no such field.
        """
        for name, value in changes.items():
            if value is not None and not hasattr(self, name):
                raise ValueError(f"{self.name}, a recipe to {self.kind}, has no {name}.")
        changes = {k: v for k, v in changes.items() if v is not None and v != getattr(self, k)}
        if not changes:
            return self
        inferred = dict(self.inferred)
        for name in changes:
            inferred[name] = f"set for this run; the recipe {self.name} has {getattr(self, name)}"
        return self._changed(**changes, inferred=inferred)

    def _changed(self, **changes: Any) -> Self:
        changed = dataclasses.replace(self, **changes)
        name = self.name
        for field_name in ("data", "length"):
            old, new = getattr(self, field_name), getattr(changed, field_name)
            if old != new:
                name = _replace_part(name, old, new)
        if self.image_size != changed.image_size:
            parts = name.split("_")
            if str(self.image_size) in parts:
                name = _replace_part(name, str(self.image_size), str(changed.image_size))
            else:
                name += f"_{changed.image_size}px"
        before, after = self.shown(), changed.shown()
        for short, new in after.items():
            if before[short] != new:
                name += f"_{short}{new}" if isinstance(new, str) else f"_{short}{new:g}"
        return dataclasses.replace(changed, name=name)

    def shown(self) -> dict[str, Any]:
        """What a changed name ends in -> its value."""
        return {
            short: getattr(self, name) for name, short in _SUFFIXES.items() if hasattr(self, name)
        }


_SUFFIXES = {
    "batch_size": "batch",
    "seed": "seed",
    "base_learning_rate": "lr",
    "layer_decay": "decay",
    "drop_path_rate": "drop",
    "ema_momentum": "ema",
    "sampling": "",
    "min_score": "score",
    "head": "",
}


def check_share(share: float | None) -> None:
    """Raises ValueError for a share of a run outside (0, 1]."""
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"scale must lie in (0, 1], got {share!r}.")


def _within(part: str, whole: str, share: float) -> bool:
    if run_length.length_unit(part) != run_length.length_unit(whole):
        return False
    # Any data set will do to compare two lengths of one unit.
    return run_length.steps(part, 1, 1000) <= share * run_length.steps(whole, 1, 1000)


def _replace_part(name: str, old: str, new: str) -> str:
    parts = name.split("_")
    if old in parts:
        parts[len(parts) - 1 - parts[::-1].index(old)] = new
        return "_".join(parts)
    return f"{name}_{new}"
