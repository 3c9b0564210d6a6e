"""Files and folders of a run: written whole or not at all, read with an error that names them."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"
# What a file system says that knows no locks, as some in a network do.
LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# How the files are called that are being written: by us, by safetensors, by the test for space.
UNFINISHED = (".writing-*", ".tmp*", ".probe-*")


class RunError(RuntimeError):
    """A run cannot start or continue; the message says why and what to do."""


def read_json(path: Path, *fields: str, mend: str = "restore it, or make its folder anew") -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        *fields: that it must have; none: any JSON will do.
        mend: what to do about a damaged file.

    Raises:
        RunError: the file is damaged; it is named.
        OSError: it cannot be opened.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): {mend}.") from error
    if fields and not isinstance(found, dict):
        raise RunError(f"{path} is damaged (it is no object): {mend}.")
    missing = [name for name in fields if name not in found]
    if missing:
        raise RunError(f"{path} is damaged (it has no {missing[0]!r}): {mend}.")
    return found


@contextlib.contextmanager
def weights_of(preset: str | Path) -> Iterator[None]:
    """Inside, HDF5's errors name the preset that is loaded.

    Raises:
        RunError: its weights are damaged.
    """
    try:
        yield
    except OSError as error:
        if not str(error).startswith("Unable to"):  # h5py's words
            raise
        raise RunError(
            f"the weights of {preset} are damaged ({error}): make the preset again, or download it "
            "again."
        ) from error


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file, or nothing: `write` gets a temporary path, which is synced and renamed.

    Raises:
        RunError: the file cannot be written, such as on a full disk, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise RunError(f"{path} is a folder: name a file.")
    with _replacing(path) as temporary:
        write(temporary)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON by way of a temporary file."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Fills a temporary folder beside `path` and puts it in the place of `path`.

    Raises:
        RunError: something cannot be written.
    """
    with _replacing(Path(path)) as temporary:
        temporary.mkdir(parents=True)
        write(temporary)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    # The ending stays: matplotlib and others go by it.
    temporary, old = (path.with_name(f".writing-{part}{path.name}") for part in ("", "old-"))
    try:
        remove(temporary)
        yield temporary
        _sync(temporary)
        if path.is_dir():  # a folder cannot be renamed over one with files in it
            remove(old)
            os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; "
            "make room or mend the folder, then run the same command again to resume."
        ) from error
    finally:
        remove(temporary)
        remove(old)


def _sync(path: Path) -> None:
    """Has the disk hold a file, or a folder with all that is in it."""
    for found in [path, *path.rglob("*")]:
        if found.is_dir():
            _sync_folder(found)
        else:
            with open(found, "rb+") as file:
                os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    # Windows opens no folders, and some network file systems sync none.
    with contextlib.suppress(OSError):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove(path: Path) -> None:
    """Removes a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def reserve(folder: Path, needed: int) -> None:
    """Has the disk set `needed` bytes aside for a moment; sees quotas, too.

    For writers that do not survive a full disk, such as HDF5.

    Raises:
        OSError: there is not so much room.
    """
    if needed > shutil.disk_usage(folder).free:
        raise OSError(f"it takes {needed / 1e6:.1f} MB, and the disk has fewer left")
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder, prefix=".probe-") as file:
            os.posix_fallocate(file.fileno(), 0, needed)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keeps other processes from working in a folder; the lock goes with the process.

    Args:
        folder: that is there.
        wait: until another process is gone.

    Raises:
        RunError: another process is at work there, and is not waited for.
        OSError: nothing can be written there.
    """
    # A marker instead of a lock would stay when the process is killed.
    lock = FileLock(Path(folder) / LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise RunError(
            f"another run is at work in {folder}: wait for it, stop it, or choose another "
            "--workdir."
        ) from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in LOCKLESS:
            raise
        warnings.warn(
            f"the file system of {folder} has no locks: see to it that only one run works there.",
            stacklevel=2,
        )
    try:
        yield
    finally:
        lock.release()
