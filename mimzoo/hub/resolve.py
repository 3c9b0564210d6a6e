"""From what a user writes to a local folder of files."""

import json
from pathlib import Path

import keras

from mimzoo.hub.catalogue import catalogue, unknown_preset

HF_PREFIX = "hf://"


def resolve(preset: str) -> Path:
    """The local folder of a preset, downloaded if need be.

    Args:
        preset: a name of the catalogue, a folder, or `hf://org/name[@revision]`.

    Raises:
        ValueError: an unknown name (nearest ones offered), a folder without `config.json`, or a
            preset of which only the recipe exists.
    """
    name = str(preset)
    if name.startswith(HF_PREFIX):
        return _checked(_download(name.removeprefix(HF_PREFIX)))
    if Path(name).is_dir():
        return _checked(Path(name))
    known = catalogue()
    if name not in known:
        raise ValueError(unknown_preset(name, known))
    entry = known[name]
    if entry.state != "bundled":
        raise ValueError(
            f"preset {name!r} has a recipe but no weights yet: "
            f"make them with `mimzoo pretrain {entry.recipe} --data …`."
        )
    return _checked(entry.folder)


def preset_class(folder: Path) -> type:
    """The registered backbone class of a preset folder.

    Raises:
        ValueError: a backbone that mimzoo does not have.
    """
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    found = keras.saving.get_registered_object(config.get("registered_name", ""))
    if found is None:
        raise ValueError(
            f"{folder} holds a {config.get('class_name', 'file of unknown kind')!r}, "
            "which is no mimzoo backbone."
        )
    return found


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} has no config.json: a preset is a folder made by `save_to_preset`."
        )
    return folder


def _download(handle: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = handle.partition("@")
    try:
        # Only the kinds of file that a preset has: never code.
        path = snapshot_download(
            repo,
            revision=revision or None,
            allow_patterns=["*.json", "*.h5", "*.csv", "*.md", "*.safetensors"],
        )
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"hf://{handle} is not in the cache and the Hub cannot be reached: "
            "check the network, or load a folder."
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"hf://{handle} cannot be read from the Hub: {error}. Check the name and revision; "
            "a private repository needs `hf auth login`."
        ) from error
    return Path(path)
