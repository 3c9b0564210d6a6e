"""Files over https, verified by their hash, and under their name only when complete."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mimzoo.hub.cache import PARTIAL, check_space, digest, disk_errors
from mimzoo.hub.errors import Unreachable, WrongFile, is_temporary, reason, with_retries

TIMEOUT = 20.0  # seconds without an answer or a byte
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def fetch(url: str, path: Path, check: str | None = None) -> Path:
    """Downloads a file, unless it is there.

    Args:
        url: `https://…`; `http://` only on this machine.
        path: of the result.
        check: "sha256:…" or "md5:…" with all or the first digits of the file's hash.

    Returns:
        `path`.

    Raises:
        ValueError: an address that is refused or has no such file, or a file with another hash
            than `check`, which is removed; `Unreachable` where trying again may help.
        OSError: no space, or a folder that cannot be written.
    """
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    check_url(url)
    if path.is_file():
        return path
    label = shown(url)
    with disk_errors(path.parent, label, "MIMZOO_CACHE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=path.name, suffix=PARTIAL, dir=path.parent)
        os.close(handle)
        try:
            with_retries(_stream, url, Path(name), label)
            if check is not None and (wrong := differs(Path(name), check)):
                raise WrongFile(
                    f"{label} is not the expected file: {wrong}. It was removed: try again; if it "
                    "stays so, the file has changed at its source."
                )
            os.replace(name, path)
        except OfflineModeIsEnabled as error:
            raise Unreachable(
                f"{label} is not in the cache, and HF_HUB_OFFLINE forbids to download it."
            ) from error
        except HTTPError as error:
            response = getattr(error, "response", None)
            if response is None or is_temporary(response.status_code):
                raise Unreachable(
                    f"{label} could not be downloaded: {reason(error)}. Try again later."
                ) from error
            raise ValueError(f"{label} cannot be downloaded: {reason(error)}.") from error
        finally:
            Path(name).unlink(missing_ok=True)
    return path


def _stream(url: str, path: Path, label: str) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    headers = {"Accept-Encoding": "identity"}
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT
    ) as response:
        check_url(str(response.url))
        hf_raise_for_status(response)
        total = int(response.headers.get("Content-Length", 0)) or None
        check_space(path.parent, total or 0, label, "MIMZOO_CACHE")
        with open(path, "wb") as file, _bar(label, total) as advance:
            for chunk in response.iter_raw():
                file.write(chunk)
                advance(len(chunk))


def check_url(url: str) -> None:
    """Raises ValueError for an address that is neither https nor on this machine."""
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.scheme == "https" and parts.hostname) and not local:
        raise ValueError(f"{shown(url)} is refused: only https:// addresses are downloaded from.")


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def differs(path: Path, check: str) -> str | None:
    """Compares a file with "sha256:…" or "md5:…", which may have the first digits only.

    Returns:
        None if it is the file, else the difference.

    Raises:
        ValueError: no such digest.
    """
    algorithm, _, wanted = check.partition(":")
    if algorithm not in ("sha256", "md5") or not re.fullmatch(r"[0-9a-fA-F]{4,64}", wanted):
        raise ValueError(f"{check!r} is no digest: write sha256:… or md5:… with hexadecimals.")
    found = digest(path, algorithm)
    return None if found.startswith(wanted.lower()) else f"its {algorithm} is {found}, not {wanted}"


@contextlib.contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int], Any]]:
    """A progress bar on a terminal, else nothing; gives a function of the bytes received."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), transient=True, console=console) as progress:
        task = progress.add_task(label.rpartition("/")[2], total=total)
        yield lambda count: progress.advance(task, count)
