"""The record of a conversion: origin, licence, published results."""

import json
from pathlib import Path
from typing import Any

from mimzoo.convert.layout import Layout
from mimzoo.hub.catalogue import Preset, catalogue
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.version import __version__


def read_json(path: Path) -> dict:
    """A JSON file; empty if there is none.

    Raises:
        ValueError: a file that is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object.")
    return found


def stored_hints(folder: Path, layout: Layout) -> dict[str, Any]:
    """ConversionHints from the configuration files that lie beside the tensors.

    Raises:
        ValueError: a configuration with a feature that the models lack.
    """
    if not layout.stored:
        return {}
    config = read_json(folder / "config.json") | read_json(folder / "preprocessor_config.json")
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"mimzoo has no activation {config['hidden_act']!r}, only gelu.")
    hints = {}
    for path, hint in layout.stored.items():
        value: Any = config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            hints[hint] = value
    return hints


def catalogued(source: str, file: str) -> tuple[Preset | None, list[dict]]:
    """The catalogue's entry that names this checkpoint, and what was published of its training.

    Args:
        source: as the user wrote it, perhaps an id on the Hub.
        file: its name.
    """
    known = {file, Handle.parse(source).repo if source.startswith(HF_PREFIX) else source}
    for preset in catalogue().values():
        for checkpoint in filter(None, (preset.checkpoint, *preset.others)):
            if checkpoint.file in known:
                return preset, [e for e in preset.published if e["by"] == checkpoint.by]
    return None, []


def record(
    layout: Layout, source: str, file: str, digest: str, licence: str, **more: Any
) -> dict[str, Any]:
    """The content of `conversion.json`."""
    preset, published = catalogued(source, file)
    return {
        "source": source,
        "file": file,
        "sha256": digest,
        "layout": layout.name,
        "origin": layout.origin,
        "licence": licence,
        "preset": preset.name if preset else None,
        "published": published,
        "mimzoo": __version__,
        **more,
    }
