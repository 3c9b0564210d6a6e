"""A preset as it will lie on the Hub: its files, its card and its manifest, in one folder."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimzoo.hub.card import card
from mimzoo.hub.contents import Contents
from mimzoo.hub.manifest import MANIFEST, is_read

CARD, PICTURE, RECIPE = "README.md", "reconstruction.png", "recipe.json"

# What publishing may add to a folder's own files.
MADE = {CARD, PICTURE, RECIPE}
# All that is ever uploaded, beside the files that loading reads.
PUBLISHED = re.compile(
    r"metadata\.json|recipe\.json|results\.json|conversion\.json|curve\.csv|curve\.png"
    r"|reconstruction\.png|LICENSE"
)

# Draws a preset's reconstructions of masked images into a file, or draws nothing.
Draw = Callable[[Contents, Path], None]


def copied_files(folder: Path) -> list[Path]:
    """The files of a preset that are published as they are: known names only.

    Raises:
        ValueError: one of them is a link that leads outside of the folder.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if not (is_read(path.name) or PUBLISHED.fullmatch(path.name)):
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{path.name} in {folder} is a link to {path.resolve()}, outside of the folder: "
                "put the file itself there, or remove the link."
            )
        if path.is_file():
            found.append(path)
    return found


def left_out(folder: Path) -> list[str]:
    """Names of what lies in a preset's folder and is not published."""
    known = {path.name for path in copied_files(folder)} | {CARD, MANIFEST}
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


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
