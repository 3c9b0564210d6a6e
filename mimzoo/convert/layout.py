"""A layout: how a family of checkpoint files names and shapes its tensors."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mimzoo.convert.files import Tensors

# Buffers that follow from the shape of a model.
BUFFERS = (r"(.*\.)?relative_position_index", r"(.*\.)?relative_coords_table", r"(.*\.)?attn_mask")


@dataclass(frozen=True)
class Layout:
    """One layout, read both ways.

    Attributes:
        name: as in `--layout`.
        origin: whose files these are.
        licence: of the released weights; "unknown" where the layout does not decide it.
        backbone: our class.
        task: what the file holds: "backbone", "classifier", "segmenter", "mae", "simmim" or
            "mixmim".
        configure: (names, tensors, hints) -> the backbone's arguments.
        rows: (names, backbone) -> the encoder's table.
        names: the family's names in this layout.
        keys: tensors that every such file has.
        without: tensors that none has, where `keys` alone fit another layout too.
        aliases: (regular expression, replacement) of other spellings of a name.
        ignored: regular expressions of tensors that are not weights of ours.
        defaults: hints for all released files.
        stored: name in a configuration file -> hint.
        pooling: of a classifier.
        target_window: side of the window that SimMIM's target is normalised by; None: plain pixels.
    """

    name: str
    origin: str
    licence: str
    backbone: type
    task: str
    configure: Callable
    rows: Callable
    names: Any
    keys: tuple[str, ...]
    without: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = BUFFERS
    defaults: dict = field(default_factory=dict)
    stored: dict = field(default_factory=dict)
    pooling: str = "avg"
    target_window: int | None = None

    def spell(self, tensors: Tensors) -> Tensors:
        """The tensors with this layout's spelling of their names."""

        def rename(name: str) -> str:
            for pattern, replacement in self.aliases:
                name = re.sub(pattern, replacement, name)
            return name

        return tensors.renamed(rename) if self.aliases else tensors

    def fits(self, tensors: Tensors) -> bool:
        """Whether a file looks like this layout."""
        spelled = self.spell(tensors)
        return all(k in spelled for k in self.keys) and not any(w in spelled for w in self.without)

    def ignores(self, name: str) -> bool:
        """Whether a tensor is none of ours."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)
