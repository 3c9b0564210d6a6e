"""The weights of a name of the catalogue that is not bundled: ours on the Hub, or the official."""

import json
import shlex
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from huggingface_hub import constants

from mimzoo.cache_folder import cache_folder
from mimzoo.hub.cache import read_record, write_record
from mimzoo.hub.catalogue import Checkpoint, Preset
from mimzoo.hub.download import cached, download
from mimzoo.hub.errors import NoRepository, Unreachable, WrongFile
from mimzoo.hub.escape import one_line
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.importer import import_checkpoint
from mimzoo.hub.licences import card_licence
from mimzoo.hub.web import differs, fetch, shown
from mimzoo.version import __version__


def find(entry: Preset) -> Path:
    """The local folder of a catalogue's preset.

    Args:
        entry: that is not bundled.

    Raises:
        ValueError: there are no weights, or they cannot be had.
        OSError: a cache that is full or cannot be written.
    """
    if found := _recall(entry):
        return found
    ours = Handle(entry.hub_id)
    try:
        found = download(ours)
    except NoRepository:
        failure = None
    except Unreachable as error:
        failure = error
    else:
        exact = ours.at(found.commit)
        licence = one_line(card_licence(found.path) or entry.licence)
        print(f"{entry.name}: from {exact}, licence of the weights {licence}", flush=True)
        _remember(entry, handle=str(exact))
        return found.path
    checkpoint = entry.checkpoint
    if checkpoint is None:
        raise ValueError(
            f"preset {entry.name!r} has a recipe but no weights yet: make them with "
            f"`{entry.made_by}`." + (f" The Hub may have some: {failure}" if failure else "")
        ) from failure
    if checkpoint.by_hand:
        raise ValueError(
            f"the weights of {entry.name!r} can only be downloaded in a browser, from "
            f"{checkpoint.url}: then run `{_command(checkpoint)}` and load DIR."
        ) from failure
    path = _in_cache(checkpoint)
    if path is None:
        if failure is not None:
            raise failure
        path = _downloaded(checkpoint)
    elif failure is not None and not constants.HF_HUB_OFFLINE:
        print(f"{failure} Using {path.name}, which is in the cache.", file=sys.stderr)
    wrong = checkpoint.digest and path.is_file() and differs(path, checkpoint.digest)
    if wrong:
        raise WrongFile(f"{checkpoint.url} is no longer the file of the catalogue: {wrong}.")
    folder = _converted(entry, checkpoint, path)
    if failure is None:
        _remember(entry, converted=str(folder))
    return folder


# --- the cached result of a name -----------------------------------------------------------------


def _record(entry: Preset) -> Path:
    return cache_folder() / "names" / f"{entry.name}.json"


def _remember(entry: Preset, **found: str) -> None:
    write_record(_record(entry), {"mimzoo": __version__, "hub_id": entry.hub_id, **found})


def _recall(entry: Preset) -> Path | None:
    record = read_record(_record(entry))
    # Another version may know better, another organisation has other weights.
    if (record.get("mimzoo"), record.get("hub_id")) != (__version__, entry.hub_id):
        return None
    if handle := record.get("handle"):
        found = cached(Handle.parse(handle))
        return found.path if found else None
    folder = Path(record.get("converted", ""))
    return folder if (folder / "config.json").is_file() else None


# --- the official checkpoint --------------------------------------------------------------------


def _in_cache(checkpoint: Checkpoint) -> Path | None:
    """The file or folder of a checkpoint, if it was downloaded before."""
    if checkpoint.url.startswith(HF_PREFIX):
        found = cached(Handle.parse(checkpoint.url))
        return found.path if found else None
    path = _place(checkpoint)
    return path if path.is_file() else None


def _downloaded(checkpoint: Checkpoint) -> Path:
    """The file or folder of a checkpoint, from where it was released, checked."""
    if checkpoint.url.startswith(HF_PREFIX):
        return download(Handle.parse(checkpoint.url)).path
    path = _place(checkpoint)
    print(f"downloading {shown(checkpoint.url)} into {path.parent}", file=sys.stderr)
    return fetch(checkpoint.url, path, checkpoint.digest)


def _place(checkpoint: Checkpoint) -> Path:
    """Where a file from the web is kept: under its address."""
    address = urlsplit(checkpoint.url)
    below = PurePosixPath(address.path).parts[1:]
    if not below or {"..", "."} & set(below):
        raise ValueError(f"{shown(checkpoint.url)} names no file.")
    return cache_folder().joinpath("downloads", address.hostname or "", *below)


def _converted(entry: Preset, checkpoint: Checkpoint, path: Path) -> Path:
    return import_checkpoint(
        path,
        entry.name,
        source=checkpoint.url,
        layout=checkpoint.layout,
        licence=checkpoint.licence,
        hints=checkpoint.hints,
    )


def _command(checkpoint: Checkpoint) -> str:
    """What converts a file that somebody has downloaded."""
    hints = (f"--set {shlex.quote(f'{k}={json.dumps(v)}')}" for k, v in checkpoint.hints.items())
    return " ".join(["mimzoo convert FILE --out DIR --layout", checkpoint.layout, *hints])
