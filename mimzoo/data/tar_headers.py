"""The members of a tar file, read header by header: fast, and every header is checked."""

import io
import posixpath
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mimzoo.data.open_files import state_of

BLOCK = 512
_EMPTY = bytes(BLOCK)
# How much is read at once: more where headers lie close together, less where images lie between.
_MIN_WINDOW, _MAX_WINDOW = 4 * BLOCK, 2**20
MAX_EXTENDED = 2**20  # bytes of a long name or of a pax header
MAX_TAIL = 2**26  # bytes of zeros behind the end mark
_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
    b"S": "sparse file",
}


class DamagedTarError(ValueError):
    """A tar file that is cut off, damaged or none; the message is what follows its name."""


class Member(NamedTuple):
    """A member of a tar file that is no folder.

    Attributes:
        name: its path, without "." and empty parts.
        start: offset of its bytes.
        size: their number.
        kind: "file", "hard link", "symbolic link", "sparse file", "device" or "pipe".
        link: of a link, what it leads to, likewise.
    """

    name: str
    start: int
    size: int
    kind: str
    link: str | None


def member_name(header: bytes) -> str:
    """The path in a header, without "." and empty parts; of long paths only the beginning."""
    return _clean(_raw_name(header))


def member_size(header: bytes) -> int:
    """The size in a header.

    Raises:
        ValueError: it is no number from 0 on.
    """
    field = header[124:136]
    if field[0] == 0x80:  # sizes of 8 GB and more: GNU's binary form
        return int.from_bytes(field[1:], "big")
    return _octal(field.partition(b"\0")[0])


def follow_links(
    links: Mapping[str, str], places: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int] | None]:
    """Where the bytes of links lie; None for one that leads out of the tar file or to nothing.

    Args:
        links: name -> what it leads to, perhaps another link.
        places: of the plain files.
    """
    found = {}
    for name in links:
        target, passed = name, set()
        while target in links and target not in passed:
            passed.add(target)
            target = links[target]
        found[name] = places.get(target)
    return found


class HeaderReader:
    """Reads a tar file's headers and small members through a window.

    Args:
        file: the file, from `open_regular`.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.length, _ = state_of(file)
        self._window, self._start, self._reach = b"", 0, _MIN_WINDOW

    def bytes_at(self, position: int, size: int) -> bytes:
        """Some bytes; fewer at the end of the file."""
        first = position - self._start
        if first < 0 or first + size > len(self._window):
            near = 0 <= first <= 2 * self._reach
            wanted = 2 * self._reach if near else self._reach // 2
            self._reach = min(max(wanted, _MIN_WINDOW), _MAX_WINDOW)
            self.file.seek(position)
            self._window = self.file.read(max(size, self._reach))
            self._start, first = position, 0
        return self._window[first : first + size]

    def members(self) -> Iterator[Member]:
        """All members but folders, in order.

        Raises:
            DamagedTarError: after the last member before the damage.
        """
        position, name, link, size = 0, None, None, None
        values: dict[bytes, bytes] = {}
        while True:
            header = self.bytes_at(position, BLOCK)
            if header == _EMPTY:
                self._check_end(position)
                return
            if len(header) < BLOCK:
                raise DamagedTarError("is cut off: it has no end mark")
            try:
                own = _checked_size(header)
            except ValueError:
                raise DamagedTarError(
                    f"is damaged or no uncompressed tar file, at byte {position}"
                ) from None
            kind, start = header[156:157], position + BLOCK
            if kind in b"123456":  # links, devices, folders and pipes have no bytes
                own = 0
            if kind == b"S":
                start = self._after_sparse_map(header, start)
            extended = kind in b"LKxXg"
            length = own if extended or size is None else size
            if start + length > self.length:
                raise DamagedTarError("is cut off in the middle of an image or other member")
            if extended and length > MAX_EXTENDED:
                raise DamagedTarError(f"is damaged: a name of {length} bytes, at byte {position}")
            here, position = position, start + -(-length // BLOCK) * BLOCK
            if kind == b"L":
                name = self.bytes_at(start, length).rstrip(b"\0")
            elif kind == b"K":
                link = self.bytes_at(start, length).rstrip(b"\0")
            elif kind in b"xX":
                values = _pax_values(self.bytes_at(start, length), here)
                name, link = values.get(b"path", name), values.get(b"linkpath", link)
                size = _pax_size(values, here)
            elif kind != b"g":
                path = _raw_name(header) if name is None else name
                what = _KINDS.get(kind)
                if what and not path.endswith(b"/"):
                    if values and any(key.startswith(b"GNU.sparse") for key in values):
                        path, what = values.get(b"GNU.sparse.name", path), "sparse file"
                    if what == "file":
                        yield Member(_clean(path), start, length, what, None)
                    else:
                        target = header[157:257].split(b"\0", 1)[0] if link is None else link
                        yield _member(path, start, length, what, target)
                name = link = size = None
                if values:
                    values = {}

    def _after_sparse_map(self, header: bytes, start: int) -> int:
        more = header[482]
        while more:
            block = self.bytes_at(start, BLOCK)
            if len(block) < BLOCK:
                raise DamagedTarError("is cut off in the middle of an image or other member")
            more, start = block[504], start + BLOCK
        return start

    def _check_end(self, position: int) -> None:
        """Behind the first empty block there may be nothing but zeros."""
        if self.length - position > MAX_TAIL:
            tail = self.length - position
            raise DamagedTarError(f"is damaged: {tail} bytes follow the end mark at {position}")
        while data := self.bytes_at(position, min(_MAX_WINDOW, self.length - position)):
            if data.count(0) < len(data):
                raise DamagedTarError(f"is damaged: data follows the end mark, at byte {position}")
            position += len(data)


def _member(path: bytes, start: int, size: int, kind: str, target: bytes) -> Member:
    name, link = _clean(path), None
    if kind == "hard link":
        link = _clean(target)
    elif kind == "symbolic link":
        text = target.decode("utf-8", "surrogateescape")
        link = posixpath.normpath(posixpath.join(posixpath.dirname(name), text))
    return Member(name, start, size, kind, link)


def _checked_size(header: bytes) -> int:
    """The size in a header.

    Raises:
        ValueError: the header's checksum does not hold, or the size is no number.
    """
    field = header[148:156]
    # The field counts as spaces. The low half of Adler-32 is 1 + the sum of all bytes mod 65521,
    # and far faster than Python's sum.
    expected = _octal(field.strip(b"\0 ")) + sum(field) - 8 * 32
    if zlib.adler32(header) & 0xFFFF != (1 + expected) % 65521:
        # Some old programs sum signed bytes.
        negative = sum(byte > 127 for byte in header[:148] + header[156:])
        if expected != sum(header) - 256 * negative:
            raise ValueError("the checksum does not hold")
    return member_size(header)


def _octal(digits: bytes) -> int:
    digits = digits.strip(b" ") or b"0"
    if not digits.isdigit():  # int() would take signs and underscores
        raise ValueError(f"{digits!r} is no number")
    return int(digits, 8)


def _pax_values(data: bytes, position: int) -> dict[bytes, bytes]:
    """The lines "length key=value" of an extended header."""
    data, values, start = data.rstrip(b"\0"), {}, 0
    while start < len(data):
        space = data.find(b" ", start, start + 20)
        digits = data[start : max(space, start)]
        end = start + int(digits) if digits.isdigit() else 0
        if not space + 1 < end <= len(data) or data[end - 1] != 10:
            raise DamagedTarError(f"is damaged: an extended header, at byte {position}")
        key, _, value = data[space + 1 : end - 1].partition(b"=")
        values[key] = value
        start = end
    return values


def _pax_size(values: dict[bytes, bytes], position: int) -> int | None:
    size = values.get(b"size")
    if size is None:
        return None
    if not size.isdigit() or len(size) > 19:
        raise DamagedTarError(f"is damaged: an extended header, at byte {position}")
    return int(size)


def _raw_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _clean(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text[:1] in "./" or "//" in text or "/./" in text:
        return "/".join(part for part in text.split("/") if part not in ("", "."))
    return text
