"""Papers and sources as the catalogue cites them."""

import re
from typing import NamedTuple


def source_url(source: str) -> str | None:
    """The address of a source that the catalogue names by repository and commit."""
    found = re.match(r"([\w.-]+/[\w.-]+) .*\(commit ([0-9a-f]{7,40})\)", source)
    return f"https://github.com/{found[1]}/tree/{found[2]}" if found else None


class Paper(NamedTuple):
    """A paper as the catalogue cites it."""

    author: str
    title: str
    arxiv: str

    @property
    def bibtex(self) -> str:
        """An entry with what is known; arXiv's number begins with year and month."""
        year = f"20{self.arxiv[:2]}"
        word = next((w for w in self.title.split() if len(w) > 3), "")
        key = re.sub(r"[^a-z0-9]", "", f"{self.author}{year}{word}".lower())
        lines = {
            "title": self.title,
            "author": f"{self.author} and others",
            "year": year,
            "eprint": self.arxiv,
            "archivePrefix": "arXiv",
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in lines.items())
        return f"@misc{{{key},\n{body}\n}}"


def paper(cited: str) -> Paper | None:
    """Reads "Xie et al., SimMIM, arXiv 2111.09886"."""
    found = re.match(r"(\S+) et al\., (.+?), arXiv (\d{4}\.\d{4,5})", cited)
    return Paper(*found.groups()) if found else None
