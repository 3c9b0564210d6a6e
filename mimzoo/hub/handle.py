"""What a user writes for something on the Hub: `hf://org/repo[@revision][/folder or file]`."""

import re
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import quote, unquote

HF_PREFIX = "hf://"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Handle:
    """A repository of models on the Hub, perhaps at a revision, perhaps a part of it.

    Attributes:
        repo: "org/name".
        revision: branch, tag or commit; None: the default branch.
        path: of a folder or file in it; "": its top.
    """

    repo: str
    revision: str | None = None
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `hf://org/repo[@revision][/path]`; a slash in a revision is written as %2F.

        Raises:
            ValueError: anything else.
        """
        parts = text.removeprefix(HF_PREFIX).strip("/").split("/")
        if len(parts) > 1:
            org, (name, at, revision), path = parts[0], parts[1].partition("@"), parts[2:]
            named = all(_NAME.fullmatch(part) for part in (org, name))
            if named and bool(at) == bool(revision) and not {"", ".", ".."} & set(path):
                return cls(f"{org}/{name}", unquote(revision) or None, "/".join(path))
        raise ValueError(f"{text} is no handle: write hf://org/repo[@revision][/folder or file].")

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a whole commit hash, which always means the same files."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str | None) -> Self:
        """The same at another revision."""
        return replace(self, revision=revision)

    def __str__(self) -> str:
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"{HF_PREFIX}{self.repo}{revision}{'/' + self.path if self.path else ''}"
