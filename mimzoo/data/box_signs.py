"""Whether a folder or .tar file seems to hold boxes, which is asked before it is opened."""

import os
import re
from collections.abc import Callable, Iterable

from mimzoo.data.coco_files import json_files
from mimzoo.data.formats import is_hidden, suffix
from mimzoo.data.label_map_files import MAPS, annotated_by
from mimzoo.data.open_files import open_regular
from mimzoo.data.pairs import stored_files

_SUFFIXES = (".xml", ".json")
_LARGE = 2**32
_FEW = 8  # folders, of which all files are listed
_READ = 16  # files of each kind, of which the ends are read
_END = 2**16  # bytes
_KEYS = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')


def has_boxes(spec: object) -> bool:
    """Whether a path seems to hold images with boxes: cheap, also for very many images.

    A folder is known by images/ beside annotations/, or by a file of Pascal VOC or COCO in it, in
    one of its few folders, or in an annotations/ in these; a .tar file of up to 4 GB by any such
    member. Other XML and JSON files do not count.
    """
    if not isinstance(spec, str | os.PathLike):
        return False
    path = os.path.expanduser(os.fspath(spec))
    if os.path.isdir(path):
        if annotated_by(path, lambda name: suffix(name) in _SUFFIXES):
            return True
        return _annotated(_near(path), lambda name: _ends(os.path.join(path, name)))
    if not os.path.isfile(path) or os.path.getsize(path) > _LARGE:
        return False
    try:
        files = stored_files(path)
        return _annotated(files.names, lambda name: _cut(files.read(name)))
    except ValueError:
        return False


def _annotated(names: Iterable[str], read: Callable[[str], tuple[bytes, bool]]) -> bool:
    """Whether one of these files is an annotation, by its content."""
    names = [name for name in sorted(names) if not is_hidden(name)]
    xml = [name for name in names if suffix(name) == ".xml"]
    return any(_is_voc(*read(name)) for name in xml[:_READ]) or any(
        _is_coco(*read(name)) for name in json_files(names)[:_READ]
    )


def _is_voc(data: bytes, whole: bool) -> bool:
    first = re.search(r"<(\w+)", _text(data))
    return first is not None and first[1] == "annotation"


def _is_coco(data: bytes, whole: bool) -> bool:
    text = _text(data)
    found = set(_KEYS.findall(text)) if text.lstrip().startswith("{") else set()
    # Of a large file, the key between two long lists is not read.
    return found >= {"images", "annotations"} if whole else len(found) > 1


def _text(data: bytes) -> str:
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return data.decode("utf-16" if wide else "utf-8-sig", "ignore")


def _near(path: str) -> list[str]:
    """Relative paths of files in a folder, in its few folders, and in annotations/ in those."""
    found, inner = _listed(path, "")
    for folder in inner:
        if len(inner) > _FEW and os.path.basename(folder).lower() not in MAPS:
            continue
        files, deeper = _listed(path, folder)
        found += files
        for one in deeper:
            found += _listed(path, one)[0] if os.path.basename(one).lower() in MAPS else []
    return found


def _listed(path: str, below: str) -> tuple[list[str], list[str]]:
    """Annotations by their suffix, and folders; of a folder that cannot be read, none."""
    files, folders = [], []
    try:
        with os.scandir(os.path.join(path, below)) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if suffix(entry.name) in _SUFFIXES:
                    files.append(name)
                elif entry.is_dir():
                    folders.append(name)
    except OSError:
        pass
    return files, folders


def _ends(path: str) -> tuple[bytes, bool]:
    """The first and the last bytes of a file, and whether these are all."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size <= 2 * _END:
                return file.read(), True
            head = file.read(_END)
            file.seek(-_END, os.SEEK_END)
            return head + file.read(), False
    except OSError:
        return b"", True


def _cut(data: bytes) -> tuple[bytes, bool]:
    whole = len(data) <= 2 * _END
    return (data if whole else data[:_END] + data[-_END:]), whole
