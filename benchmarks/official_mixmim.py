"""MixMIM's official code as a peer: with a timm that is younger than it."""

import sys
from typing import Any

import numpy as np


def official_mixmim(folder: str, size: str) -> Any:
    """A model of the official code: pixels (B, 3, H, W) -> the loss.

    Args:
        folder: of the code; its `models_mixmim.py` is imported, with windows and merging of timm
            0.5, which it was written for.
        size: such as "base".
    """
    import torch

    sys.path.insert(0, folder)
    module = _module()

    class Peer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = getattr(module, f"mixmim_{size}")()

        def forward(self, pixel_values: Any) -> Any:
            return self.model(pixel_values)[0]

    return Peer()


def _module() -> Any:
    vars(np).setdefault("float", float)
    import models_mixmim
    from timm.models import swin_transformer as swin

    class Merging(swin.PatchMerging):
        def __init__(self, resolution: tuple, dim: int, norm_layer: Any) -> None:
            super().__init__(dim, norm_layer=norm_layer)
            self.resolution = resolution

        def forward(self, x: Any) -> Any:
            grid = x.reshape(len(x), *self.resolution, -1)
            return super().forward(grid).flatten(1, 2)

    def cut(x: Any, size: int) -> Any:
        return swin.window_partition(x, (size, size))

    def join(windows: Any, size: int, height: int, width: int) -> Any:
        return swin.window_reverse(windows, (size, size), height, width)

    models_mixmim.PatchMerging = Merging
    models_mixmim.window_partition, models_mixmim.window_reverse = cut, join
    return models_mixmim
