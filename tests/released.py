"""Small checkpoints in the layouts of the released files of the data-scaling paper."""

from pathlib import Path

import numpy as np
import torch

from mimzoo.convert import get_layout
from mimzoo.convert.exporting import to_tensors
from mimzoo.hub.catalogue import Preset
from mimzoo.models import ImageClassifier, SwinV2Backbone
from mimzoo.pretraining import RandomMasking, SimMIM, SlidingWindowTarget

WINDOW, SIDE, PATCH = 4, 64, 4
CLASSES = 5


class Released:
    """Writes checkpoints: one small model a layout, other numbers in each file.

    Args:
        folder: where they go, under the names of the catalogue.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.states: dict[str, dict[str, np.ndarray]] = {}

    def write(self, preset: Preset, seed: int) -> Path:
        """The official file of a preset."""
        checkpoint = preset.checkpoint
        random = np.random.default_rng(seed)
        state = {
            name: torch.from_numpy(
                random.normal(0, 0.3, value.shape).astype("float32")
                if value.dtype == np.float32
                else value
            )
            for name, value in self.state(checkpoint.layout).items()
        }
        path = self.folder / checkpoint.file
        torch.save({"model": state}, path)
        return path

    def state(self, layout: str) -> dict[str, np.ndarray]:
        """Names and shapes, and the buffers that show window and size of the image."""
        if layout not in self.states:
            backbone = SwinV2Backbone(
                (SIDE, SIDE, 3), PATCH, 8, (2, 1), (1, 2), WINDOW, name="backbone"
            )
            if layout == "swinv2_classifier":
                model = ImageClassifier.for_backbone(SwinV2Backbone)(backbone, CLASSES)
            else:
                model = SimMIM(backbone, RandomMasking(0.6), target=SlidingWindowTarget(47))
            state = to_tensors(get_layout(layout), model)
            prefix = "" if layout == "swinv2_classifier" else "encoder."
            tokens, windows = WINDOW**2, (SIDE // PATCH // WINDOW) ** 2
            block = f"{prefix}layers.0.blocks"
            state[f"{block}.0.attn.relative_position_index"] = np.zeros((tokens, tokens), "int64")
            state[f"{block}.1.attn_mask"] = np.zeros((windows, tokens, tokens), "int64")
            self.states[layout] = state
        return self.states[layout]
