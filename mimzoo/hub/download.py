"""Presets and checkpoints from the Hub, through the Hub's own cache.

Every file is checked against the hash that the Hub lists, once; what was checked is remembered in
mimzoo's cache, so that a later load asks nobody and hashes nothing.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from urllib.parse import quote

from mimzoo.hub.cache import (
    PARTIAL,
    cache_folder,
    check_space,
    digest,
    read_record,
    repository_folder,
    write_record,
)
from mimzoo.hub.fetch import Refused, Unreachable, WrongFile, fetch, told_disk_errors
from mimzoo.hub.handle import Handle
from mimzoo.hub.listing import (
    AGENT,
    HubFile,
    Listing,
    ask,
    cached_listing,
    hub_error,
    preset_file,
)
from mimzoo.hub.manifest import MANIFEST, ManifestError, check_manifest

VARIABLE = "HF_HOME"


def download(handle: Handle) -> Path:
    """The local folder or file of a handle, downloaded if need be.

    A commit that is in the cache takes no request, another revision one. When the Hub cannot be
    reached, what the cache has of that revision is used, and a line on stderr says so.

    Args:
        handle: of a preset or checkpoint on the Hub.

    Raises:
        ValueError: it cannot be read, or what came is not what the Hub lists; a file that is
            wrong is removed. `Unreachable` where trying again may help, `NoRepository` where
            there is nothing of that name.
        OSError: no space, or a cache that cannot be written.
    """
    if handle.is_commit and (found := _checked_before(handle)):
        return found
    try:
        listing = ask(handle)
    except Unreachable as error:
        if (found := cached(handle)) is None:
            raise
        if not _offline():
            print(f"{error} Using the cached copy, {commit_of(found)[:7]}.", file=sys.stderr)
        return found
    exact = handle.at(listing.commit)
    found = _checked_before(exact) or _download(exact, listing)
    if not handle.is_commit:
        write_record(_ref(handle), {"commit": listing.commit})
    return found


def cached(handle: Handle) -> Path | None:
    """What the cache has of a handle, without any request; None if it has not all of it."""
    if handle.is_commit and (found := _checked_before(handle)):
        return found
    if commit := read_record(_ref(handle)).get("commit"):
        return _checked_before(handle.at(commit))
    return _downloaded_by_others(handle)


def _downloaded_by_others(handle: Handle) -> Path | None:
    """What `hf download` or another library has put into the Hub's cache, if it is complete."""
    listing = cached_listing(handle)
    if listing is None:
        return None
    exact = handle.at(listing.commit)
    snapshot = repository_folder(handle.repo) / "snapshots" / listing.commit
    wanted = listing.wanted(exact)
    if not all((snapshot / file.name).is_file() for file in wanted):
        return None
    return _keep(exact, wanted, snapshot)


def commit_of(path: Path) -> str:
    """The commit of a folder or file that `download` gave."""
    parts = path.parts
    return parts[len(parts) - 1 - parts[::-1].index("snapshots") + 1]


def _offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


# --- what is remembered -------------------------------------------------------------------------


def _folder(handle: Handle) -> Path:
    return cache_folder() / "hub" / handle.repo.replace("/", "--")


def _ref(handle: Handle) -> Path:
    return _folder(handle) / "refs" / f"{quote(handle.revision or 'default', safe='')}.json"


def _record(handle: Handle) -> Path:
    name = quote(handle.path, safe="") or "top"
    return _folder(handle) / str(handle.revision) / f"{name}.json"


def _checked_before(handle: Handle) -> Path | None:
    """The local path of a handle at a commit, if all of it was checked and is still there."""
    files = read_record(_record(handle)).get("files")
    if not files:
        return None
    snapshot = repository_folder(handle.repo) / "snapshots" / str(handle.revision)
    for name, size in files.items():
        path = snapshot / name
        if not path.is_file() or path.stat().st_size != size:
            return None
    return snapshot / handle.path


# --- downloading --------------------------------------------------------------------------------


def _download(handle: Handle, listing: Listing) -> Path:
    wanted = listing.wanted(handle)
    repository = repository_folder(handle.repo)
    snapshot = repository / "snapshots" / listing.commit
    check_space(repository, sum(_to_come(repository, f) for f in wanted), str(handle), VARIABLE)
    # Small ones first: where something is refused, it shows before the large ones.
    fetched = set()
    with told_disk_errors(repository, str(handle), VARIABLE), _quiet():
        for file in sorted(wanted, key=lambda file: file.large):
            if _get(handle, file, snapshot):
                fetched.add(file)
    return _keep(handle, wanted, snapshot, fetched)


def _to_come(repository: Path, file: HubFile) -> int:
    """How many bytes of a file are not in the cache yet."""
    blob = repository / "blobs" / file.blob
    if blob.exists():
        return 0
    partial = blob.with_name(blob.name + PARTIAL)
    return max(file.size - (partial.stat().st_size if partial.exists() else 0), 0)


def _keep(
    handle: Handle, wanted: list[HubFile], snapshot: Path, fetched: Container[HubFile] = ()
) -> Path:
    """Checks what came and remembers that."""
    _check(handle, wanted, snapshot, fetched)
    write_record(_record(handle), {"files": {file.name: file.size for file in wanted}})
    return snapshot / handle.path


def _get(handle: Handle, file: HubFile, snapshot: Path) -> bool:
    """Brings one file into the Hub's cache; True if it was checked on the way."""
    from huggingface_hub import constants, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers

    if (snapshot / file.name).is_file():
        return False
    blob = repository_folder(handle.repo) / "blobs" / file.blob
    checked = file.large and not blob.exists()
    if checked:
        # huggingface_hub starts a file anew after a process was killed, `fetch` goes on with it.
        # Where the blob is there, huggingface_hub makes only the link.
        try:
            fetch(
                hf_hub_url(handle.repo, file.name, revision=handle.revision),
                blob,
                check=f"sha256:{file.blob}",
                size=file.size,
                headers=build_hf_headers(**AGENT),
                label=str(Handle(handle.repo, handle.revision, file.name)),
                variable=VARIABLE,
                http=constants.ENDPOINT.startswith("http://"),  # a mirror that somebody chose
            )
        except Refused:  # huggingface_hub tells better why
            checked = False
    try:
        hf_hub_download(handle.repo, file.name, revision=handle.revision, **AGENT)
    except HTTPError as error:
        raise hub_error(error, handle) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if isinstance(error.__cause__, HTTPError):
            raise hub_error(error.__cause__, handle) from error
        raise Unreachable(f"{file.name} of {handle} cannot be read from the Hub.") from error
    except OSError as error:
        if error.errno is not None:  # the disk
            raise
        raise Unreachable(f"{file.name} of {handle} did not come whole: try again.") from error
    return checked


def _check(
    handle: Handle, wanted: list[HubFile], snapshot: Path, fetched: Container[HubFile]
) -> None:
    """Compares all files with the Hub's list, and a preset with its manifest; once."""
    for file in wanted:
        if file in fetched or not file.blob:
            continue
        path = snapshot / file.name
        found = digest(path) if file.large else _git_hash(path)
        if found != file.blob:
            _remove(path)
            raise WrongFile(
                f"{file.name} of {handle} came with the hash {found}, and the Hub lists "
                f"{file.blob}. It was removed; try again."
            )
    if (snapshot / handle.path / MANIFEST).is_file():
        prefix = f"{handle.path}/" if handle.path else ""
        known = {f.name.removeprefix(prefix): f.blob for f in wanted if f.large}
        try:
            check_manifest(snapshot / handle.path, preset_file, known)
        except ManifestError as error:
            _remove(snapshot / handle.path / error.file)
            raise WrongFile(
                f"{handle} is not what its publisher listed: {error} The file was removed; if "
                "this stays so, tell the publisher."
            ) from error


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _remove(path: Path) -> None:
    """Removes a file of the Hub's cache: the link, and what it points at."""
    if path.is_symlink():
        blob = path.parent / os.readlink(path)
        path.unlink()
        if blob.is_symlink():  # into the store that repositories share
            blob.resolve().unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without huggingface_hub's bars, one for each small file."""
    from huggingface_hub import constants, utils

    # Where the environment has decided, asking for something else gives a warning.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
