"""From what a user writes to a local folder of files."""

import json
from pathlib import Path

from mimzoo.hub.catalogue import catalogue, unknown_preset

HF_PREFIX = "hf://"


def resolve(preset: str) -> Path:
    """The local folder of a preset, downloaded if need be.

    Args:
        preset: a name of the catalogue, a folder, or `hf://org/name[@revision]`. A checkpoint of
            another library is converted first, once (`mimzoo.convert`).

    Raises:
        ValueError: an unknown name (nearest ones offered), a folder without `config.json`, a
            checkpoint that cannot be converted, or a preset of which only the recipe exists.
    """
    name = str(preset)
    if name.startswith(HF_PREFIX):
        return _checked(download(name.removeprefix(HF_PREFIX)), name)
    if Path(name).exists():
        return _checked(Path(name), name)
    known = catalogue()
    if name not in known:
        raise ValueError(unknown_preset(name, known))
    entry = known[name]
    if entry.state != "bundled":
        raise ValueError(
            f"preset {name!r} has a recipe but no weights yet: "
            f"make them with `mimzoo pretrain {entry.recipe} --data …`."
        )
    return _checked(entry.folder, name)


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


# Only the kinds of file that a preset has: never code.
_PRESET = ["*.json", "*.weights.h5", "*.csv", "*.md", "*.safetensors"]


def download(handle: str, file: str | None = None) -> Path:
    """A snapshot of a repository on the Hub.

    Args:
        handle: `org/name[@revision]`.
        file: only this one of its files; default: what a preset or a checkpoint consists of.

    Raises:
        ValueError: it cannot be read.
    """
    if file is not None:
        return _snapshot(handle, [file])
    folder = _snapshot(handle, _PRESET)
    if not is_preset(folder) and not any(folder.glob("*.safetensors")):
        return _snapshot(handle, [*_PRESET, "pytorch_model*.bin"])
    return folder


def _snapshot(handle: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = handle.partition("@")
    try:
        path = snapshot_download(repo, revision=revision or None, allow_patterns=patterns)
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
