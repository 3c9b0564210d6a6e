"""What the tests' Hub holds: repositories, files, collections; in memory or in a folder."""

import hashlib
import json
import threading
import time
from pathlib import Path


def git_oid(data: bytes) -> str:
    """The name that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


class Repository:
    """Commits, each with all its files, and the branches and tags that point at them.

    A file is {"oid", "size", "lfs"}: its name in git, its size, and its sha256 if it is large.
    """

    def __init__(self, private: bool = False, gated: bool = False):
        self.private, self.gated = private, gated
        self.commits: dict[str, dict] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}

    def commit(self, branch: str, files: dict[str, dict], title: str, message: str = "") -> str:
        parent = self.branches.get(branch)
        content = [parent, title, time.time_ns(), sorted((k, v["oid"]) for k, v in files.items())]
        oid = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        entry = {"files": files, "title": title, "message": message, "parent": parent}
        self.commits[oid] = {**entry, "date": now()}
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        known = revision if revision in self.commits else None
        return self.branches.get(revision) or self.tags.get(revision) or known

    def files(self, revision: str = "main") -> dict[str, dict]:
        return self.commits[self.resolve(revision)]["files"]


class Store:
    """Everything that a server holds.

    Args:
        folder: where it is kept, so that a server that was stopped goes on; None: in memory.
    """

    def __init__(self, folder: Path | None = None):
        self.lock = threading.RLock()
        self.folder = folder
        self.blobs: dict[str, bytes] = {}  # small ones by their name in git, large ones by sha256
        self.repositories: dict[str, Repository] = {}
        self.collections: dict[str, dict] = {}
        if folder is not None and (folder / "state.json").is_file():
            self._load(folder)

    def add_blob(self, data: bytes, large: bool = False) -> str:
        name = hashlib.sha256(data).hexdigest() if large else git_oid(data)
        if name not in self.blobs:
            self.blobs[name] = data
            if self.folder is not None:
                (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
                (self.folder / "blobs" / name).write_bytes(data)
        return name

    def small_file(self, data: bytes) -> dict:
        return {"oid": self.add_blob(data), "size": len(data), "lfs": None}

    def large_file(self, sha256: str) -> dict:
        size = len(self.blobs[sha256])
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return {"oid": git_oid(pointer.encode()), "size": size, "lfs": sha256}

    def data(self, file: dict) -> bytes:
        return self.blobs[file["lfs"] or file["oid"]]

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        if self.folder is None:
            return
        state = {
            "repositories": {name: vars(repo) for name, repo in self.repositories.items()},
            "collections": self.collections,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "state.tmp"
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self.folder / "state.json")

    def _load(self, folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for path in (folder / "blobs").iterdir():
            self.blobs[path.name] = path.read_bytes()
        for name, content in state["repositories"].items():
            self.repositories[name] = Repository()
            vars(self.repositories[name]).update(content)
        self.collections = state["collections"]


def is_large(path: str, size: int) -> bool:
    """What the Hub stores outside of git."""
    endings = (".h5", ".safetensors", ".bin", ".pth", ".pt", ".keras", ".npz", ".onnx")
    return size > 0 and (size > 10_000_000 or path.endswith(endings))
