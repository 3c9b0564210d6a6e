"""The members of a tar file, read header by header: fast, and nothing but headers is read."""

import os
from collections.abc import Iterator

BLOCK = 512
_EMPTY = bytes(BLOCK)
# How much is read at once: more where headers lie close together, less where images lie between.
_LEAST, _MOST = 4 * BLOCK, 2**20


class DamagedTarError(ValueError):
    """A tar file that is cut off or no tar file; the message is what follows its name."""


def member_name(header: bytes) -> str:
    """The path in a header, without "." and empty parts; of long paths only the beginning."""
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return _clean(name)


def member_size(header: bytes) -> int:
    """The size in a header.

    Raises:
        ValueError: it is no number.
    """
    field = header[124:136]
    if field[0] & 0x80:  # sizes of 8 GB and more: GNU's binary form
        return int.from_bytes(field, "big") & (2**88 - 1)
    return int(field.rstrip(b"\0 ") or b"0", 8)


class HeaderReader:
    """Reads a tar file's headers and small members through a window.

    Args:
        file: a file descriptor.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self.length = os.fstat(file).st_size
        self._window, self._start, self._reach = b"", 0, _LEAST

    def bytes_at(self, position: int, size: int) -> bytes:
        """Some bytes; fewer at the end of the file."""
        first = position - self._start
        if first < 0 or first + size > len(self._window):
            near = 0 <= first <= 2 * self._reach
            self._reach = min(2 * self._reach, _MOST) if near else max(self._reach // 2, _LEAST)
            self._window = os.pread(self.file, max(size, self._reach), position)
            self._start, first = position, 0
        return self._window[first : first + size]

    def members(self) -> Iterator[tuple[str, int, int]]:
        """Path, offset and size of each plain file; links, folders and devices are passed over.

        Raises:
            DamagedTarError: after the last member that is whole.
        """
        position, long_name, long_size = 0, None, None
        while True:
            header = self.bytes_at(position, BLOCK)
            if header == _EMPTY:
                return
            if len(header) < BLOCK:
                raise DamagedTarError("is cut off: it has no end mark")
            if not _valid(header):
                raise DamagedTarError(f"is damaged or no uncompressed tar file, at byte {position}")
            kind, size, start = header[156:157], member_size(header), position + BLOCK
            if long_size is not None:
                size = long_size
            if start + size > self.length:
                raise DamagedTarError("is cut off in the middle of an image or other member")
            position = start + -(-size // BLOCK) * BLOCK
            if kind == b"L":
                long_name = self.bytes_at(start, size).rstrip(b"\0")
            elif kind == b"x":
                values = _pax_values(self.bytes_at(start, size))
                long_name = values.get(b"path", long_name)
                long_size = int(values[b"size"]) if b"size" in values else None
            elif kind not in (b"g", b"K"):
                if kind in (b"0", b"\0", b"7"):
                    name = member_name(header) if long_name is None else _clean(long_name)
                    yield name, start, size
                long_name, long_size = None, None


def _valid(header: bytes) -> bool:
    if header[257:262] != b"ustar":
        # Tars from before 1988 have no other mark than the sum of the header's bytes.
        try:
            expected = int(header[148:156].strip(b"\0 "), 8)
        except ValueError:
            return False
        return expected == sum(header) - sum(header[148:156]) + 8 * 32
    try:
        member_size(header)
    except ValueError:
        return False
    return True


def _pax_values(data: bytes) -> dict[bytes, bytes]:
    """The lines "length key=value" of an extended header."""
    values = {}
    while data[:1].isdigit():
        length = int(data.split(b" ", 1)[0])
        key, _, value = data[:length].partition(b" ")[2].rstrip(b"\n").partition(b"=")
        values[key] = value
        data = data[max(length, 1) :]
    return values


def _clean(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text[:1] in "./" or "//" in text or "/./" in text:
        return "/".join(part for part in text.split("/") if part not in ("", "."))
    return text
