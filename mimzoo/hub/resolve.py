"""From what a user writes to a local folder of files."""

import json
from pathlib import Path

from mimzoo.hub.catalogue import catalogue, unknown_preset
from mimzoo.hub.handle import HF_PREFIX, Handle


def resolve(preset: str) -> Path:
    """The local folder of a preset, downloaded if need be.

    A name of the catalogue is looked for among the bundled presets, then on the Hub, in
    mimzoo's organisation, then as the official checkpoint, which is downloaded and converted.
    What was found is remembered until mimzoo's next version, and needs no network again.

    Args:
        preset: a name of the catalogue, a folder, or `hf://org/name[@revision][/folder]`. A
            checkpoint of another library is converted first, once (`mimzoo.convert`).

    Raises:
        ValueError: an unknown name (nearest ones offered), a folder without `config.json`, a
            checkpoint that cannot be converted, a download that fails, or a preset of which only
            the recipe exists.
        OSError: a cache that is full or cannot be written.
    """
    name = str(preset)
    if name.startswith(HF_PREFIX):
        from mimzoo.hub.download import download

        return _checked(download(Handle.parse(name)), name)
    if Path(name).exists():
        return _checked(Path(name), name)
    known = catalogue()
    if name not in known:
        raise ValueError(unknown_preset(name, known))
    entry = known[name]
    if is_preset(entry.folder):
        return entry.folder
    from mimzoo.hub.released import find

    return find(entry)


def preset_class(folder: Path) -> type:
    """The registered backbone class of a preset folder.

    Raises:
        ValueError: a backbone that mimzoo does not have.
    """
    import keras

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    found = keras.saving.get_registered_object(config.get("registered_name", ""))
    if found is None:
        raise ValueError(
            f"{folder} holds a {config.get('class_name', 'file of unknown kind')!r}, "
            "which is no mimzoo backbone."
        )
    return found


def is_preset(folder: Path) -> bool:
    """Whether a folder was made by `save_to_preset`; others have a config.json, too."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "registered_name" in config


def _checked(path: Path, name: str) -> Path:
    if is_preset(path):
        return path
    # Conversion builds models, which stand above names and folders.
    from mimzoo.convert.cache import converted, has_weights

    if has_weights(path):
        return converted(path, name)
    raise ValueError(
        f"{path} has no config.json of a preset and no checkpoint: a preset is a folder made by "
        "`save_to_preset`."
    )
