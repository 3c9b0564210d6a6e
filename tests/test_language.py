"""What users read: plain words, and links that lead somewhere."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).parent.parent
PYTHON = ("mimzoo", "training", "guides", "benchmarks")
PLAIN = (
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
    "docs/**/*.md",
    "presets/*/README.md",
    "training/launch/*.sh",
    "training/**/*.toml",
)

# pattern -> what to write instead
DIALECT = {
    r"\b(tells?|told|telling)\b": "print, report, name, say, predict, distinguish; inferred from",
    r"\b(go|goes|going|gone|went) on\b": "continue, resume",
    r"\b(has|have) to find (its|their) place\b": "must be mapped",
    r"\bwhat (was|were) found\b|\bwhat it made of\b": "the result, the converted preset",
    r"\bpapers?('s?)? notes\b|\bpapers\.md\b": "the paper's arXiv id, or the official file",
    r"(?<!standard )\bdeviations?\b": "standard deviation, `std`",
    r"\bfigures of\b": "results, metrics, numbers, plots of",
    r"\bknown again\b": "recognised",
    r"\bunasked\b": "unexpectedly",
    r"\b(has|of) no use here\b": "unused",
    r"\bpasses .{1,30} by\b": "does not use",
    r"\bbears? (it|them) out\b": "confirm",
    r"\bno batches to take\b": "no batches given",
    r"\bfor ever\b": "without end",
}
# A phrase may be broken at the end of a line.
WRONG = {re.compile(p.replace(" ", r"\s"), re.IGNORECASE): good for p, good in DIALECT.items()}


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """(first line, text) of what a file says to readers: comments, and strings that hold words."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, text
        return
    comments = [
        (token.start[0], token.string[1:])
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from joined(comments)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def joined(comments: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Comments on successive lines as one text, since a phrase may be broken."""
    start, lines = 0, []
    for line, text in comments:
        if lines and line != start + len(lines):
            yield start, "\n".join(lines)
            lines = []
        start, lines = (start if lines else line), [*lines, text]
    if lines:
        yield start, "\n".join(lines)


def read_by_users() -> list[Path]:
    """Every file that is checked."""
    found = [path for pattern in PLAIN for path in ROOT.glob(pattern)]
    return found + [path for folder in PYTHON for path in ROOT.glob(f"{folder}/**/*.py")]


def dialect() -> list[str]:
    """file:line: the word, and what to write instead."""
    hits = []
    for path in read_by_users():
        for first, text in prose(path):
            text = re.sub(r"[ \t]*\n[ \t]*", "\n", text)
            for pattern, better in WRONG.items():
                for match in pattern.finditer(text):
                    line = first + text.count("\n", 0, match.start())
                    word = " ".join(match[0].split())
                    hits.append(f"{path.relative_to(ROOT)}:{line}: {word!r}: better {better}")
    return sorted(set(hits))


def test_plain_words():
    hits = dialect()
    assert not hits, "\n".join([f"{len(hits)} hits:", *hits])


def anchors(path: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


PAGES = [path for path in read_by_users() if path.suffix == ".md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:", "hf:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


if __name__ == "__main__":
    print("\n".join(dialect()))
