"""Names -> folders. Importing it does not import Keras: `mimzoo list` would take seconds."""

from mimzoo.cache_folder import cache_folder
from mimzoo.hub.catalogue import Checkpoint, Preset, list_presets, preset_info
from mimzoo.hub.importer import register_importer
from mimzoo.hub.resolve import forget, preset_class, resolve
from mimzoo.hub.tables import grid

__all__ = [
    "Checkpoint",
    "Preset",
    "cache_folder",
    "forget",
    "grid",
    "list_presets",
    "preset_class",
    "preset_info",
    "register_importer",
    "resolve",
]
