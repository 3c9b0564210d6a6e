"""Settings that no tensor shows: heads of a ViT, window of a Swin V2, image size."""

import difflib
from collections.abc import Mapping
from typing import Any

KNOWN = (
    "decoder_layer_norm_epsilon",
    "decoder_num_heads",
    "image_size",
    "layer_norm_epsilon",
    "mask_patch_size",
    "mask_ratio",
    "mean",
    "norm_pix_loss",
    "num_heads",
    "pretrained_window_sizes",
    "shorter_side",
    "std",
    "window_size",
)


class ConversionHints:
    """Looks a setting up: as the caller gave it, else in the configuration beside the tensors.

    Args:
        given: by the caller.
        stored: read from a configuration file.
        common: shared by all released files of a layout, where no shape shows it.

    Raises:
        TypeError: an unknown name in `given`; the message offers the nearest.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        stored: Mapping[str, Any],
        common: Mapping[str, Any] | None = None,
    ):
        for name in given:
            if name not in KNOWN:
                near = difflib.get_close_matches(name, KNOWN, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(KNOWN)}."
                raise TypeError(f"unknown conversion option {name!r}: {hint}")
        self.given = dict(given)
        self.stored = dict(stored)
        self.common = dict(common or {})
        self._used: set[str] = set()

    def get(self, name: str, shapes: Any = None, default: Any = None) -> Any:
        """The value of a setting.

        Args:
            name: one of `KNOWN`.
            shapes: inferred from shapes; used if neither caller nor configuration has it.
            default: used if nothing else gives it.

        Raises:
            ValueError: no source has it.
        """
        self._used.add(name)
        for value in (self.given.get(name), self.stored.get(name), shapes, self.common.get(name)):
            if value is not None:
                return value
        if default is None:
            raise ValueError(
                f"{name} cannot be inferred from the tensors: give it, as {name}=… or "
                f"--set {name}=…"
            )
        return default

    def image_size(self, shapes: int | tuple[int, int] | None = None) -> tuple[int, int]:
        """Height and width in pixels.

        Raises:
            ValueError: neither a positive integer nor two.
        """
        size = self.get("image_size", shapes)
        sides = (size, size) if isinstance(size, int) else size
        whole = isinstance(sides, list | tuple) and all(type(x) is int and x > 0 for x in sides)
        if not whole or len(sides) != 2:
            raise ValueError(f"image_size must be one positive integer or two, got {size!r}.")
        return tuple(sides)

    def check_used(self) -> None:
        """Raises TypeError for a given option that no part of the conversion read."""
        unused = sorted(set(self.given) - self._used)
        if unused:
            raise TypeError(f"{unused[0]} is inferred from the tensors, or unused: remove it.")
