"""Names -> folders."""

from mimzoo.hub.catalogue import Preset, list_presets, preset_info
from mimzoo.hub.resolve import preset_class, resolve

__all__ = ["Preset", "list_presets", "preset_class", "preset_info", "resolve"]
