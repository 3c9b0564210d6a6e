"""Text from others - names, licences, results - made harmless in a terminal and in Markdown."""

import html
import re
from typing import Any

# All but printable characters: control codes, escape sequences, marks that turn the direction.
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+"
)
_ESCAPE_CODE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")


def one_line(text: object) -> str:
    """One line of printable characters, for a terminal."""
    return _CONTROL.sub(" ", _ESCAPE_CODE.sub(" ", str(text))).strip()


def markdown(text: object) -> str:
    """Plain text in Markdown: no HTML, links, images or code; `table` escapes its bars."""
    plain = html.escape(one_line(text), quote=False)
    return re.sub(r"([\\`\[\]])", r"\\\1", plain)


def code(text: object) -> str:
    """Text in backquotes, more of them than it has in a row."""
    plain = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    space = " " if "`" in plain else ""
    return f"{fence}{space}{plain}{space}{fence}"


def all_text(value: Any) -> Any:
    """JSON with every string as `markdown` gives it."""
    if isinstance(value, dict):
        return {key: all_text(one) for key, one in value.items()}
    if isinstance(value, list):
        return [all_text(one) for one in value]
    return markdown(value) if isinstance(value, str) else value
