"""What a recipe may say about its target."""

from typing import Any

_PIXEL_LOSSES = ("mse", "l1")
# target -> its losses, and the names of its options.
TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "normalized_patches": (_PIXEL_LOSSES, ()),
    "pixels": (_PIXEL_LOSSES, ()),
    "sliding_window": (_PIXEL_LOSSES, ()),
    "hog": (_PIXEL_LOSSES, ("bins", "cell_size", "gradient", "per_channel")),
    "features": (
        ("smooth_l1", "mse", "cosine"),
        (
            "teacher",
            "layers",
            "layer_norm",
            "beta",
            "on",
            "dtype",
            "image_size",
            "mean",
            "std",
            "digest",
        ),
    ),
}


def check_target(target: str, window: int | None, loss: str, options: dict[str, Any]) -> None:
    """Raises ValueError unless the four fields of a recipe go together."""
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {target!r}.")
    if (target == "sliding_window") != (window is not None):
        raise ValueError("target_window is for the target 'sliding_window', which needs it.")
    losses, names = TARGETS[target]
    if loss not in losses:
        raise ValueError(f"the target {target!r} has the losses {', '.join(losses)}, not {loss!r}.")
    unknown = set(options) - set(names)
    if unknown:
        raise ValueError(
            f"the target {target!r} has no option {', '.join(sorted(unknown))}; "
            f"it has {', '.join(names) or 'none'}."
        )
    if target == "features" and not isinstance(options.get("teacher"), str):
        raise ValueError(
            "the target 'features' needs the name, folder or hf:// handle of a teacher: "
            "target_options={'teacher': ...}."
        )
