"""What an example is called wherever it lies, and its place in named subsets."""

import hashlib
import re

_SUFFIX = re.compile(r"\.[A-Za-z]{2,5}$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def example_id(name: str) -> str:
    """What an example is called wherever it lies: its file name without folder and suffix."""
    return _SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2])


def subset_rank(example: str) -> int:
    """Where an example's id stands in the order of named subsets: the first eight bytes of a hash.

    Of a hundred million ids, two share a rank with a probability of 0.0003.
    """
    return hash64(f"mimzoo subset 0:{example}")


def hash64(text: str) -> int:
    """The first eight bytes of the text's SHA-256, as a number."""
    return int.from_bytes(hashlib.sha256(name_bytes(text)).digest()[:8], "big")


def name_bytes(name: str) -> bytes:
    """A file name as the bytes that lie on the disk, also where they are not UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    r"""A text with file names, fit for every output.

    Bytes that are not UTF-8 become \xe9, control characters \x1b.
    """
    text = name_bytes(text).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
