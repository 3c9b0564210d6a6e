"""From the name of a preset to a folder of files on this machine."""

import json
import os
from pathlib import Path

from mimzoo.cache_folder import cache_folder
from mimzoo.hub.cache import hub_cache_folder
from mimzoo.hub.catalogue import catalogue, unknown_preset
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.importer import import_checkpoint, is_checkpoint

# What names meant when this process first asked: a branch may move while a run reads weights,
# recipe and licence, which have to be of one commit.
_pinned: dict[tuple[str, ...], Path] = {}


def resolve(preset: str | os.PathLike) -> Path:
    """The local folder of a preset, downloaded if need be.

    A name of the catalogue is searched among the bundled presets, then on the Hub in mimzoo's
    organisation, then as the official checkpoint, which is downloaded and converted. The result
    is cached until you upgrade, and works offline. Within a process, a name or handle always
    means the same commit; `forget` ends that.

    Args:
        preset: a name of the catalogue, a folder, the work directory of a finished run, or
            `hf://org/name[@revision][/folder]`. A checkpoint of another library is converted
            first, once (`mimzoo.convert`).

    Raises:
        ValueError: an unknown name (nearest ones offered), a folder without `config.json`, a
            checkpoint that cannot be converted, a download that fails, or a preset of which only
            the recipe exists.
        OSError: a cache that is full or cannot be written.
    """
    name = str(preset)
    path = Path(name)
    if not name.startswith(HF_PREFIX) and path.exists():
        return _local(path, name)
    key = (name, os.environ.get("MIMZOO_ORG", ""), str(cache_folder()), str(hub_cache_folder()))
    if not is_preset(_pinned.get(key, Path("/nothing"))):
        _pinned[key] = _named(name)
    return _pinned[key]


def forget() -> None:
    """Makes names and handles mean their newest commits again."""
    _pinned.clear()


def _named(name: str) -> Path:
    if name.startswith(HF_PREFIX):
        from mimzoo.hub.download import download

        return _local(download(Handle.parse(name)).path, name)
    known = catalogue()
    if name not in known:
        raise ValueError(unknown_preset(name, known))
    entry = known[name]
    if is_preset(entry.folder):
        return entry.folder
    from mimzoo.hub.released import find

    return find(entry)


def _local(path: Path, name: str) -> Path:
    if is_preset(path):
        return path
    if path.is_dir() and is_preset(path / "preset"):  # of a run
        return path / "preset"
    if path.is_dir() and (path / "checkpoints").is_dir() and (path / "recipe.json").is_file():
        raise ValueError(
            f"the run in {path} has written no preset yet: run its command again to finish it."
        )
    if is_checkpoint(path):
        return import_checkpoint(path, name)
    raise ValueError(
        f"{path} has no config.json of a preset and no checkpoint: a preset is a folder made by "
        "`save_to_preset`."
    )


def preset_class(folder: Path) -> type:
    """The registered backbone class of a preset folder.

    Raises:
        ValueError: a backbone that mimzoo does not have.
    """
    import keras

    config = read_object(Path(folder) / "config.json")
    found = keras.saving.get_registered_object(config["registered_name"])
    if found is None:
        raise ValueError(
            f"{folder} holds a {config.get('class_name', 'file of unknown kind')!r}, "
            "which is no mimzoo backbone."
        )
    return found


def read_object(path: Path) -> dict:
    """What Keras serialised into a file of a preset: "registered_name", "config" and others.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path.parent} lacks {path.name}.")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: download or save the preset again.") from error
    names = ("module", "class_name", "registered_name")
    known = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names[1:])
    # Keras writes null for the module of a class that a script or a notebook defines.
    known = known and isinstance(found.get("module", 0), str | None)
    if not known or not isinstance(found.get("config"), dict):
        raise ValueError(
            f"{path} is no serialised Keras object, with {', '.join(names)} and config: download "
            "or save the preset again."
        )
    return found


def is_preset(folder: Path) -> bool:
    """Whether a folder was made by `save_to_preset`; others have a config.json, too."""
    if not (folder / "config.json").is_file():
        return False
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "registered_name" in config
