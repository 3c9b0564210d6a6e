"""Names -> folders."""

from mimzoo.hub.cache import cache_folder
from mimzoo.hub.catalogue import Preset, list_presets, preset_info
from mimzoo.hub.resolve import preset_class, resolve

__all__ = ["Preset", "cache_folder", "list_presets", "preset_class", "preset_info", "resolve"]
