"""Presets and checkpoints from the Hub, in huggingface_hub's cache.

Every file is compared once with the hash that the Hub lists. The result is cached, so that a later
load sends no request and hashes nothing.
"""

import contextlib
import glob
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimzoo.cache_folder import cache_folder
from mimzoo.hub.cache import (
    check_space,
    digest,
    disk_errors,
    hub_cache_folder,
    read_record,
    write_record,
)
from mimzoo.hub.errors import Unreachable, WrongFile, hub_error, is_offline
from mimzoo.hub.handle import Handle
from mimzoo.hub.listing import (
    AGENT,
    CHECKPOINT_ENDINGS,
    PRESET_ENDINGS,
    HubFile,
    Listing,
    ask,
    listing_of,
    preset_file,
)
from mimzoo.hub.manifest import MANIFEST, ManifestError, check_manifest

VARIABLE = "HF_HOME"


@dataclass(frozen=True)
class Downloaded:
    """A folder or file on this machine, and the commit that it is of."""

    path: Path
    commit: str


def download(handle: Handle) -> Downloaded:
    """The folder or file of a handle, downloaded if need be.

    A cached commit takes no request, another revision one. When the Hub cannot be reached, the
    cached copy of that revision is used, and a line on stderr says so.

    Args:
        handle: of a preset or checkpoint on the Hub.

    Raises:
        ValueError: it cannot be read, or a file is not what the Hub lists; such a file is removed.
            `Unreachable` where trying again may help, `NoRepository` for an unknown name.
        OSError: no space, or a cache that cannot be written.
    """
    if handle.is_commit and (found := _recall(handle)):
        return found
    try:
        listing = ask(handle)
    except Unreachable as error:
        if (found := cached(handle)) is None:
            raise
        if not is_offline():
            print(f"{error} Using the cached copy, {found.commit[:7]}.", file=sys.stderr)
        return found
    exact = handle.at(listing.commit)
    found = _recall(exact) or _download(exact, listing)
    if not handle.is_commit:
        write_record(_record(handle), read_record(_record(exact)))
    return found


def cached(handle: Handle) -> Downloaded | None:
    """The cached copy of a handle, without any request; None if it is not complete.

    What `hf download` or another library has put into the Hub's cache counts, too.
    """
    return _recall(handle) or _of_others(handle)


def _of_others(handle: Handle) -> Downloaded | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    start = glob.escape(handle.path)
    patterns = [f"{start}*{ending}" for ending in (*PRESET_ENDINGS, *CHECKPOINT_ENDINGS)]
    try:
        folder = snapshot_download(
            handle.repo,
            revision=handle.revision,
            allow_patterns=[start, *patterns] if start else patterns,
            local_files_only=True,
        )
        listing = listing_of(Path(folder), Path(folder).name)
        wanted = listing.wanted(handle)
    except (LocalEntryNotFoundError, ValueError):
        return None
    return _keep(handle.at(listing.commit), wanted, Path(folder))


# --- what was checked before --------------------------------------------------------------------


def _record(handle: Handle) -> Path:
    name = hashlib.sha256(str(handle).encode()).hexdigest()[:32]
    return cache_folder() / "hub" / f"{name}.json"


def _recall(handle: Handle) -> Downloaded | None:
    """What a handle was resolved to, if all of it was checked and is still there."""
    record = read_record(_record(handle))
    folder = Path(record.get("folder", ""))
    if not record.get("files") or not folder.is_relative_to(hub_cache_folder()):
        return None
    for name, size in record["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return None
    return Downloaded(folder / handle.path, record["commit"])


def _keep(handle: Handle, wanted: list[HubFile], folder: Path) -> Downloaded:
    """Checks all files, and records that."""
    _check(handle, wanted, folder)
    files = {file.name: file.size for file in wanted}
    record = {"folder": str(folder), "commit": handle.revision, "files": files}
    write_record(_record(handle), record)
    return Downloaded(folder / handle.path, str(handle.revision))


# --- downloading --------------------------------------------------------------------------------


def _download(handle: Handle, listing: Listing) -> Downloaded:
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = listing.wanted(handle)
    to_come = sum(
        file.size
        for file in wanted
        if not isinstance(
            try_to_load_from_cache(handle.repo, file.name, revision=listing.commit), str
        )
    )
    check_space(hub_cache_folder(), to_come, str(handle), VARIABLE)
    with disk_errors(hub_cache_folder(), str(handle), VARIABLE), _bars_on_terminals():
        try:
            folder = snapshot_download(
                handle.repo,
                revision=listing.commit,
                allow_patterns=[glob.escape(file.name) for file in wanted],
                **AGENT,
            )
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            cause = error.__cause__
            if isinstance(cause, HTTPError):
                raise hub_error(cause, handle) from error
            raise Unreachable(f"{handle} cannot be read from the Hub: try again.") from error
        except HTTPError as error:
            raise hub_error(error, handle) from error
        except OSError as error:
            if error.errno is not None:  # the disk
                raise
            raise Unreachable(f"{handle} was not received completely: try again.") from error
    return _keep(handle, wanted, Path(folder))


def _check(handle: Handle, wanted: list[HubFile], folder: Path) -> None:
    """Compares all files with the Hub's list, and a preset with its manifest."""
    wrong = []
    for file in wanted:
        path = folder / file.name
        if not path.is_file():
            raise Unreachable(f"{file.name} of {handle} cannot be read from the Hub: try again.")
        if not file.digest:
            continue
        found = digest(path) if file.large else _git_hash(path)
        if found != file.digest:
            _remove(path)
            wrong.append(
                f"{file.name} of {handle} was received with the hash {found}, the Hub lists "
                f"{file.digest}: it was removed, try again."
            )
    if wrong:
        raise WrongFile(wrong[0])
    if (folder / handle.path / MANIFEST).is_file():
        prefix = f"{handle.path}/" if handle.path else ""
        known = {file.name.removeprefix(prefix): file.digest for file in wanted if file.large}
        try:
            check_manifest(folder / handle.path, preset_file, known)
        except ManifestError as error:
            _remove(folder / handle.path / error.file)
            raise WrongFile(
                f"{handle} is not what its publisher listed: {error} The file was removed: try "
                "again, then report it to the publisher."
            ) from error


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _remove(path: Path) -> None:
    """Removes a file of the Hub's cache and what its link leads to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _bars_on_terminals() -> Iterator[None]:
    """huggingface_hub's progress bars only where somebody sees them."""
    from huggingface_hub import constants, utils

    # Where the environment decides, asking for something else gives a warning.
    decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    if decided or sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
