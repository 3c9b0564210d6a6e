"""What an error means to who runs a command, in one sentence."""

import re

from mimzoo_training.files import RunError

EXPECTED = (ValueError, TypeError, OSError, RunError, ModuleNotFoundError)
# Each library has its own class and words for it.
MEMORY = re.compile(
    r"out of memory|OOM when allocating|RESOURCE_EXHAUSTED|std::bad_alloc"
    r"|(can't|cannot|unable to|failed to|not enough memory to) allocate|can't start new thread",
    re.IGNORECASE,
)
# The last line of a traceback inside a message, as TensorFlow has it of errors in a data source.
WRAPPED = re.compile(r"^(?:\w+\.)*(?:\w+Error|\w+Exception): (.+)$", re.MULTILINE)


def sentence(error: BaseException) -> str | None:
    """What an error says, on one line; None if nobody expected it."""
    text = str(error)
    if isinstance(error, MemoryError) or MEMORY.search(text):
        detail = f" ({_first_line(text)})" if text else ""
        return f"out of memory{detail}: use a smaller --batch-size, or free some memory."
    if "Traceback (most recent call last)" in text and (found := WRAPPED.findall(text)):
        return found[-1]
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    if isinstance(error, EXPECTED):
        return " ".join(text.split()) or type(error).__name__
    return None


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0].rstrip(".")
    return line if len(line) <= 200 else f"{line[:200]}…"
