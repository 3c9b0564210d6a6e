"""What the tensors of a file do not tell: heads of a ViT, window of a Swin V2, image size."""

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
    "std",
    "window_size",
)


class Facts:
    """Looks a fact up: as the caller gave it, else in the file's own configuration.

    Args:
        given: by the caller.
        stored: read from a configuration beside the tensors.
        common: of all released files of a layout, where shapes tell nothing.

    Raises:
        TypeError: a given fact that does not exist; the nearest is offered.
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
                raise TypeError(f"no checkpoint needs to be told {name!r}: {hint}")
        self.given = dict(given)
        self.stored = dict(stored)
        self.common = dict(common or {})
        self._used: set[str] = set()

    def get(self, name: str, shapes: Any = None, default: Any = None) -> Any:
        """A fact.

        Args:
            name: of the fact.
            shapes: what the shapes tell, for want of something better.
            default: if nothing else tells it.

        Raises:
            ValueError: nothing tells it.
        """
        self._used.add(name)
        for value in (self.given.get(name), self.stored.get(name), shapes, self.common.get(name)):
            if value is not None:
                return value
        if default is None:
            raise ValueError(
                f"the tensors do not tell {name}: give it, as {name}=… or --set {name}=…"
            )
        return default

    def image_size(self, shapes: int | None = None) -> tuple[int, int]:
        """Height and width in pixels."""
        size = self.get("image_size", shapes)
        height, width = (size, size) if isinstance(size, int) else size
        return int(height), int(width)

    def check_used(self) -> None:
        """Raises TypeError for a given fact that nothing asked for."""
        unused = sorted(set(self.given) - self._used)
        if unused:
            raise TypeError(f"{unused[0]} is told by the tensors or has no use here: leave it out.")
