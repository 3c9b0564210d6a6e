"""The presets to publish, and where their weights come from."""

import glob
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimzoo.convert.files import sha256, weight_files
from mimzoo.convert.importing import convert_local
from mimzoo.hub.cache import cached_digest, check_space, size_of
from mimzoo.hub.catalogue import Checkpoint, Preset, catalogue, grids, unknown_preset
from mimzoo.hub.contents import Contents
from mimzoo.hub.errors import WrongFile
from mimzoo.hub.escape import one_line
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.listing import AGENT, ask
from mimzoo.hub.resolve import is_preset
from mimzoo.hub.web import differs, fetch
from mimzoo.version import __version__
from mimzoo_training.publish.staging import MADE, copied_files

_SPACE = "MIMZOO_CACHE"


@dataclass(frozen=True)
class Item:
    """One preset to publish.

    Attributes:
        name: of the preset and of its repository.
        entry: of the catalogue, if it has one.
        folder: where it lies; None: it is made of the official checkpoint, or there is none.
    """

    name: str
    entry: Preset | None
    folder: Path | None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What it is made of, where it lies in no folder."""
        return self.entry.checkpoint if self.entry and self.folder is None else None

    @property
    def licences(self) -> list[str]:
        """All that hold for its weights."""
        if self.folder is not None:
            return Contents.read(self.folder).licences
        return [self.entry.licence] if self.entry else []


def find_item(text: str) -> Item:
    """The item of a folder, of the preset of a finished run, or of a name of the catalogue.

    Raises:
        ValueError: none of them.
    """
    path = Path(text)
    for folder in (path / "preset", path):
        if is_preset(folder):
            copied_files(folder)  # refuses links before anything is read through them
            found = Contents.read(folder)
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}", found.name):
                raise ValueError(
                    f"{one_line(found.name)!r}, the name of the preset in {text}, is no name of a "
                    "repository: use letters, digits, dots, dashes and underscores only."
                )
            return Item(found.name, found.entry, folder.resolve())
    if path.is_dir():
        raise ValueError(
            f"{text} is no preset: it has no config.json that `save_to_preset` or a finished run "
            "has left."
        )
    if text not in catalogue():
        raise ValueError(unknown_preset(text, catalogue()))
    return _of(catalogue()[text])


def items_of_grid(name: str) -> list[Item]:
    """All presets of a grid, classifiers too.

    Raises:
        ValueError: an unknown grid.
    """
    if name not in grids():
        raise ValueError(f"unknown grid {name!r}: there are {', '.join(grids())}.")
    return [_of(entry) for entry in catalogue().values() if entry.grid == name]


def _of(entry: Preset) -> Item:
    return Item(entry.name, entry, entry.folder if is_preset(entry.folder) else None)


@dataclass(frozen=True)
class Source:
    """Where the weights of an item are taken from.

    Attributes:
        path: a preset's folder or a checkpoint on this machine; None: it has to be downloaded.
        record: what the manifest keeps of it, by which a published preset is recognised.
        files: of a preset's folder, with their sha256.
        size: bytes, 0 where nobody knows.
    """

    path: Path | None
    record: dict[str, Any]
    size: int
    files: dict[str, str] = field(default_factory=dict)


def source_of(item: Item, checkpoints: Path | None) -> Source:
    """Finds where the weights of an item are, without moving anything large.

    Args:
        item: with a folder or a checkpoint.
        checkpoints: folder of official files; None: they are downloaded.

    Raises:
        ValueError: there is no such file, or it is another than the catalogue says.
    """
    if item.folder is not None:
        files = {path.name: cached_digest(path) for path in copied_files(item.folder)}
        return Source(item.folder, {}, size_of(item.folder), files)
    checkpoint = item.checkpoint
    assert checkpoint is not None
    record: dict[str, Any] = {"url": checkpoint.url, "layout": checkpoint.layout}
    if checkpoints is not None:
        path = checkpoints / checkpoint.file
        if not path.exists():
            raise ValueError(f"{checkpoints} has no {checkpoint.file}: put it there.")
        files = weight_files(path)
        if checkpoint.digest and len(files) == 1 and (how := differs(path, checkpoint.digest)):
            raise ValueError(f"{path} is not the file that was released: {how}.")
        return Source(path, {**record, "sha256": sha256(files)}, size_of(path))
    if checkpoint.by_hand:
        raise ValueError(
            f"{checkpoint.file} can only be downloaded in a browser, from {checkpoint.url}: then "
            "give its folder with --checkpoints."
        )
    if checkpoint.url.startswith(HF_PREFIX):
        handle = Handle.parse(checkpoint.url)
        wanted = ask(handle).wanted(handle)
        large = [file for file in wanted if file.large]
        if len(large) == 1:
            record["sha256"] = large[0].digest
        return Source(None, record, sum(file.size for file in wanted))
    return Source(None, record, 0)


def obtain(item: Item, source: Source, work: Path) -> Path:
    """The folder of an item's preset, downloaded and converted if need be.

    Args:
        item: what is wanted.
        source: of `source_of`.
        work: a folder for what is made; what another call has left there whole is used.

    Raises:
        ValueError: the checkpoint cannot be downloaded or converted.
        OSError: no space.
    """
    if item.folder is not None:
        check_space(work, source.size, item.name, _SPACE)  # it is read back
        return item.folder
    checkpoint, out = item.checkpoint, work / "converted"
    assert checkpoint is not None
    if out.is_dir():
        done = Contents.read(out).conversion
        known = {"mimzoo": __version__, "layout": checkpoint.layout, "source": checkpoint.url}
        known |= {"sha256": source.record["sha256"]} if "sha256" in source.record else {}
        if known.items() <= done.items():
            return out
        shutil.rmtree(out)
    copies = 2 if source.path else 3  # the checkpoint, what is made of it, what is read back
    check_space(work, copies * source.size, item.name, _SPACE)
    path = source.path or _downloaded(checkpoint, work / "download")
    convert_local(
        path,
        checkpoint.url,
        out,
        checkpoint.layout,
        checkpoint.licence,
        hints=checkpoint.hints,
    )
    if source.path is None:
        shutil.rmtree(work / "download")
    return out


def source_record(source: Source, folder: Path) -> dict[str, Any]:
    """The manifest's record of a source: `Source.record`, with the hash of a downloaded file."""
    if source.files or "sha256" in source.record:
        return source.record
    return {**source.record, "sha256": Contents.read(folder).conversion["sha256"]}


def same_source(manifest: dict[str, Any], source: Source) -> bool:
    """Whether a published preset is what a source would give; an unknown hash agrees."""
    if source.files:
        files = manifest["files"].items()
        there = {n: e["sha256"] for n, e in files if n in source.files or n not in MADE}
        return there == source.files
    return source.record.items() <= manifest.get("source", {}).items()


def _downloaded(checkpoint: Checkpoint, folder: Path) -> Path:
    """The official file or files, not in the user's caches: there may be hundreds."""
    from huggingface_hub import snapshot_download

    if not checkpoint.url.startswith(HF_PREFIX):
        return fetch(checkpoint.url, folder / checkpoint.url.rpartition("/")[2], checkpoint.digest)
    handle = Handle.parse(checkpoint.url)
    listing = ask(handle)
    wanted = listing.wanted(handle)
    names = [glob.escape(file.name) for file in wanted]
    snapshot_download(
        handle.repo, revision=listing.commit, allow_patterns=names, local_dir=folder, **AGENT
    )
    for file in wanted:
        if file.large and (wrong := differs(folder / file.name, f"sha256:{file.digest}")):
            raise WrongFile(f"{file.name} of {handle} is not what the Hub lists: {wrong}.")
    return folder / handle.path
