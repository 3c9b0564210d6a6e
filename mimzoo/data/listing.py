"""All files below a folder, and what is there but no file."""

import os
import stat

from mimzoo.data.formats import is_hidden
from mimzoo.data.ids import printable


def list_files(root: str) -> tuple[list[str], dict[str, str]]:
    """Paths of all files below a folder, relative and with "/"; links are followed once.

    Returns:
        The regular files, and name -> reason of anything else: of folders that give no file, the
        name ends in "/". What is hidden is left out.

    Raises:
        ValueError: a folder that cannot be read: what is in it would be missing.
    """
    found, others, seen = [], {}, set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = os.path.join(root, below) if below else root
        real = os.path.realpath(folder)
        if real in seen:
            others[f"{below}/"] = "a link to a folder that is read already"
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            raise ValueError(
                f"the folder {printable(os.fspath(folder))} cannot be read ({error.strerror}): "
                "allow reading it, or move it away"
            ) from error
        subfolders = []
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                subfolders.append(name)
            elif _is_regular(entry):
                found.append(name)
            else:
                others[name] = _what(entry.path)
        waiting += reversed(subfolders)
        if not entries:
            others[f"{below}/"] = "an empty folder"
    return found, others


def _is_regular(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _what(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"a link that cannot be followed: {error.strerror}"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket, no regular file"
