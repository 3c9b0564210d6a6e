"""A preset as it will lie on the Hub: its files, its card and its manifest, in one folder."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimzoo.hub.card import card
from mimzoo.hub.contents import Contents
from mimzoo.hub.listing import preset_file
from mimzoo.hub.manifest import MANIFEST

CARD, PICTURE, RECIPE = "README.md", "reconstruction.png", "recipe.json"

# What publishing may add to a folder's own files.
MADE = {CARD, PICTURE, RECIPE}

# Draws what a preset makes of masked images into a file, or draws nothing.
Draw = Callable[[Contents, Path], None]


def copied_files(folder: Path) -> list[Path]:
    """The files of a preset that are published as they are: never code, nothing in folders."""
    return [
        path
        for path in sorted(folder.iterdir())
        if preset_file(path.name) and path.name not in (CARD, MANIFEST)
    ]


def stage(
    folder: Path,
    out: Path,
    *,
    handle: str,
    recipe: dict[str, Any] | None = None,
    draw: Draw | None = None,
) -> None:
    """Fills a folder with what will be published; large files are links where that is possible.

    Args:
        folder: of the preset.
        out: the folder to make, by the preset's name.
        handle: what `from_preset` will be called with.
        recipe: as JSON, for a folder that has none.
        draw: makes the picture of reconstructions.
    """
    out.mkdir(parents=True)
    for path in copied_files(folder):
        _link(path.resolve(), out / path.name)
    if recipe and not (out / RECIPE).exists():
        text = json.dumps({"recipe": recipe}, indent=2, ensure_ascii=False) + "\n"
        (out / RECIPE).write_text(text, encoding="utf-8")
    found = Contents.read(out)
    if draw is not None and found.kind == "mim" and PICTURE not in found.has:
        draw(found, out / PICTURE)
    (out / CARD).write_text(card(out, handle=handle), encoding="utf-8")


def _link(path: Path, to: Path) -> None:
    try:
        os.symlink(path, to)
    except OSError:  # not allowed on Windows without more rights
        shutil.copyfile(path, to)
