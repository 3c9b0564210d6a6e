"""Files over https: resumed, checked, and under their name only when whole."""

import contextlib
import errno
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mimzoo.hub.cache import PARTIAL, cache_folder, check_space, digest

# Attempts in a row that bring nothing, the seconds before the second (then twice as long each
# time), and the seconds of silence after which one ends.
ATTEMPTS = 5
WAIT = 1.0
TIMEOUT = 20.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unreachable(ValueError):
    """The network or a server is at fault, perhaps only for now."""


class Refused(ValueError):
    """A server says that this user may not have a file."""


class WrongFile(ValueError):
    """A file that is not what it should be."""


def fetch(
    url: str,
    path: Path,
    *,
    check: str | None = None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    label: str | None = None,
    variable: str = "MIMZOO_CACHE",
    http: bool = False,
) -> Path:
    """Downloads a file, unless it is there.

    What an interrupted call has left is gone on with, if `check` can tell that it fits.

    Args:
        url: `https://…`; `http://` only on this machine.
        path: where it is to be.
        check: "sha256:…" or "md5:…" with all or the first digits of the file's hash.
        size: its bytes, if known.
        headers: of the request.
        label: what messages call it; default: the URL.
        variable: environment variable that moves the folder of `path`.
        http: whether another machine may be asked without encryption.

    Returns:
        `path`.

    Raises:
        ValueError: an address that is refused or has no such file, or a file that is another than
            `check` says, which is removed; `Unreachable` where trying again may help.
        OSError: no space, or a folder that cannot be written.
    """
    from huggingface_hub.utils import WeakFileLock

    check_url(url, http)
    label = label or shown(url)
    if path.is_file():
        return path
    partial = path.with_name(path.name + PARTIAL)
    lock = hashlib.sha256(str(path).encode()).hexdigest()[:32]
    locks = cache_folder() / "locks"
    with told_disk_errors(locks, label, "MIMZOO_CACHE"):
        locks.mkdir(parents=True, exist_ok=True)
    with told_disk_errors(path.parent, label, variable):
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{lock}.lock"):
            if path.is_file():  # another process was faster
                return path
            if check is None:
                partial.unlink(missing_ok=True)
            _Transfer(url, partial, headers or {}, size, label, variable, http).run()
            if check is not None and (wrong := differs(partial, check)):
                partial.unlink()
                raise WrongFile(
                    f"{label} is not the file that it should be: {wrong}. It was removed; try "
                    "again, and if this stays so, the file has changed at its source."
                )
            os.replace(partial, path)
    return path


def check_url(url: str, http: bool = False) -> None:
    """Raises ValueError for an address that is neither https nor on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not (http or parts.hostname in _LOOPBACK):
        raise ValueError(f"{shown(url)} is refused: only https:// addresses are downloaded from.")


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def differs(path: Path, check: str) -> str | None:
    """Compares a file with "sha256:…" or "md5:…", which may have the first digits only.

    Returns:
        None if it is the file, else in what it differs.

    Raises:
        ValueError: no such digest.
    """
    algorithm, _, wanted = check.partition(":")
    if algorithm not in ("sha256", "md5") or not re.fullmatch(r"[0-9a-fA-F]{4,64}", wanted):
        raise ValueError(f"{check!r} is no digest: write sha256:… or md5:… with hexadecimals.")
    found = digest(path, algorithm)
    return None if found.startswith(wanted.lower()) else f"its {algorithm} is {found}, not {wanted}"


@contextlib.contextmanager
def told_disk_errors(folder: Path, what: str, variable: str) -> Iterator[None]:
    """Turns what the disk says into a sentence.

    Raises:
        OSError: the sentence.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already, or no error of the disk
            raise
        elsewhere = f"put the cache elsewhere with the environment variable {variable}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"the disk is full: {what} does not fit into {folder}; {elsewhere}."
            ) from error
        raise OSError(
            f"the cache folder {folder} cannot be written ({error.strerror}): {elsewhere}."
        ) from error


class _Failed(Exception):
    """An attempt after which another may help."""


def reason(error: Exception) -> str:
    """What a failed request says, in a few words and without its headers."""
    kind = type(error).__name__
    if isinstance(error, _Failed):
        return str(error)
    if "Timeout" in kind:
        return "the server did not answer in time"
    if kind == "RemoteProtocolError":
        return "the connection was cut off"
    return f"the server cannot be reached ({kind})"


@dataclass
class _Transfer:
    """Fills a partial file, in as many attempts as bring something."""

    url: str
    partial: Path
    headers: Mapping[str, str]
    size: int | None
    label: str
    variable: str
    http: bool
    etag: str = ""

    def run(self) -> None:
        from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

        failures = 0
        while True:
            start = self.there()
            if self.size is not None and start > self.size:
                self.partial.unlink()
                start = 0
            if self.size is not None and start == self.size > 0:
                return
            try:
                return self.attempt(start)
            except OfflineModeIsEnabled as error:
                raise Unreachable(
                    f"{self.label} is not in the cache, and HF_HUB_OFFLINE forbids to download it."
                ) from error
            except (HTTPError, _Failed) as error:
                failures = 1 if self.there() > start else failures + 1
                if failures >= ATTEMPTS:
                    goes_on = ", it goes on from what there is" if self.partial.exists() else ""
                    raise Unreachable(
                        f"{self.label} could not be downloaded: {reason(error)}. Try again "
                        f"later{goes_on}."
                    ) from error
                time.sleep(WAIT * 2 ** (failures - 1))

    def there(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def attempt(self, start: int) -> None:
        from huggingface_hub import get_session

        request = {**self.headers, "Accept-Encoding": "identity"}
        if start:
            request["Range"] = f"bytes={start}-"
            if self.etag:
                request["If-Range"] = self.etag
        with get_session().stream(
            "GET", self.url, headers=request, follow_redirects=True, timeout=TIMEOUT
        ) as response:
            check_url(str(response.url), self.http)
            self.check_status(response.status_code)
            self.etag = self.etag or response.headers.get("ETag", "")
            said = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if response.status_code == 200 or said is None or int(said[1]) != start:
                start = 0
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            if None not in (self.size, total) and self.size != total:
                raise _Failed(f"the server has {total} bytes of {self.size}")
            to_come = (total or self.size or 0) - start
            check_space(self.partial.parent, to_come, self.label, self.variable)
            mode = "ab" if start else "wb"
            with open(self.partial, mode) as file, bar(self.label, start, total) as advance:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    advance(len(chunk))

    def check_status(self, status: int) -> None:
        if status == 416:
            self.partial.unlink(missing_ok=True)
            raise _Failed("the server has another file than it had")
        if status in (408, 429) or status >= 500:
            raise _Failed(f"the server answers {status}")
        if status in (401, 403):
            raise Refused(f"{self.label} cannot be downloaded: the server refuses it ({status}).")
        if status in (404, 410):
            raise ValueError(
                f"{self.label} cannot be downloaded: there is no such file ({status})."
            )
        if status not in (200, 206):
            raise ValueError(f"{self.label} cannot be downloaded: the server answers {status}.")


@contextlib.contextmanager
def bar(label: str, start: int, total: int | None) -> Iterator[Callable[[int], Any]]:
    """A bar of bytes on a terminal, else nothing; gives a function of the bytes that came."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), transient=True, console=console) as progress:
        task = progress.add_task(label.rpartition("/")[2], total=total, completed=start)
        yield lambda count: progress.advance(task, count)
