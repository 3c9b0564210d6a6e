"""Presets onto the Hub: verified, with card and manifest, read back; interrupted uploads resume.

A preset is uploaded in one commit, read back, compared and tagged. So a repository whose manifest
fits and whose commit has the tag is finished, which needs no download of weights to see.
The tag is `weights-` and the first 12 digits of the sha256 of the lines "<sha256>  <name>" of its
files of weights, sorted by name: the same weights, the same tag.
"""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import WeakFileLock

from mimzoo.cache_folder import cache_folder
from mimzoo.hub.cache import check_space, readable, size_of
from mimzoo.hub.card import handle_of, validate
from mimzoo.hub.catalogue import Preset, catalogue, grids
from mimzoo.hub.contents import Contents
from mimzoo.hub.escape import one_line
from mimzoo.hub.licences import LicenceRefused, check_licences
from mimzoo.hub.manifest import check_manifest, read_manifest, write_manifest
from mimzoo_training.publish.fingerprint import compare, fingerprint
from mimzoo_training.publish.items import (
    Item,
    Source,
    obtain,
    same_source,
    source_of,
    source_record,
)
from mimzoo_training.publish.remote import Remote, State, one_sentence
from mimzoo_training.publish.staging import Draw, left_out, stage

# Errors of a network that does not answer.
NO_ANSWER = (OfflineModeIsEnabled, HTTPError)
PUBLISHED, THERE, PLANNED = "published", "was there already", "would be published"
REFUSED, RECIPE_ONLY, FAILED = "refused: licence", "recipe only", "failed"


@dataclass(frozen=True)
class Outcome:
    """What happened to a preset.

        Attributes:
            name: of the preset.
            what: # Errors of a network that does not answer.
    NO_ANSWER = (OfflineModeIsEnabled, HTTPError)
    PUBLISHED, THERE, PLANNED, REFUSED, RECIPE_ONLY or FAILED.
            note: one sentence, where there is more to say.
            files: what is published, with the sizes in bytes.
            card: the text of README.md, of a dry run.
            seconds: duration.
    """

    name: str
    what: str
    note: str = ""
    files: dict[str, int] = field(default_factory=dict)
    card: str = ""
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


class Publisher:
    """Publishes presets in an organisation, one after another.

    Args:
        organisation: or user, on the Hub.
        dry_run: everything but what changes something on the Hub; works without network.
        allow_licences: licences with conditions that are allowed; "unknown" is one.
        checkpoints: folder of official checkpoints; None: they are downloaded.
        again: also what is published already, with a new card; weights are not sent twice.
        recipe_of: gives the recipe of a preset of the catalogue as JSON, if there is one.
        draw: makes the picture of reconstructions.
        progress: called with a preset's name and the step.
    """

    def __init__(
        self,
        organisation: str,
        *,
        dry_run: bool = False,
        allow_licences: Iterable[str] = (),
        checkpoints: Path | None = None,
        again: bool = False,
        recipe_of: Callable[[Preset], dict[str, Any] | None] = lambda entry: None,
        draw: Draw | None = None,
        progress: Callable[[str, str], None] = lambda name, doing: None,
    ) -> None:
        self.remote = Remote(organisation)
        self.dry_run = dry_run
        self.allow_licences = tuple(allow_licences)
        self.checkpoints = checkpoints
        self.again = again
        self.recipe_of = recipe_of
        self.draw = draw
        self.progress = progress
        self.work = cache_folder() / "publishing"

    def check(self, items: list[Item]) -> str | None:
        """Checks, before anything heavy, for what would make every preset fail.

        Returns:
            In a dry run, why nothing could be published now; else None.

        Raises:
            ValueError: no token, one that may not write here, or no folder of checkpoints.
            OSError: too little space for the largest of the presets.
        """
        if self.checkpoints is not None and not self.checkpoints.is_dir():
            raise ValueError(f"there is no folder {self.checkpoints} of checkpoints.")
        reason = None
        try:
            self.remote.check_writable()
        except (ValueError, *NO_ANSWER) as error:
            if not self.dry_run:
                raise
            reason = one_sentence(error)
        sizes = [(2 * size, item.name) for item in items if (size := self.local_size(item))]
        if sizes:
            check_space(self.work, *max(sizes), "MIMZOO_CACHE")
        return reason

    def local_size(self, item: Item) -> int:
        """Bytes of what an item is made of; 0 if they are not on this machine."""
        if item.folder is not None:
            return size_of(item.folder)
        if self.checkpoints is None or item.checkpoint is None:
            return 0
        path = self.checkpoints / item.checkpoint.file
        return size_of(path) if path.exists() else 0

    def run(self, items: list[Item]) -> Iterator[Outcome]:
        """Publishes presets; one that fails does not stop the others.

        Raises:
            ValueError: another publisher uses this cache.
        """
        with self._alone():
            wanted = {item.name for item in items}
            for left in self.work.iterdir():
                if left.is_dir() and left.name not in wanted:
                    shutil.rmtree(left)
            for item in items:
                begun = time.monotonic()
                try:
                    done = self._publish(item)
                except LicenceRefused as refusal:
                    done = Outcome(item.name, REFUSED, str(refusal))
                except Exception as error:
                    done = Outcome(item.name, FAILED, one_sentence(error))
                finally:
                    shutil.rmtree(self.work / item.name, ignore_errors=True)
                yield replace(done, seconds=time.monotonic() - begun)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import Timeout

        self.work.mkdir(parents=True, exist_ok=True)
        try:
            with WeakFileLock(self.work / "lock", timeout=0.5):
                yield
        except Timeout as error:
            raise ValueError(
                f"another `mimzoo publish` is running in {self.work}: wait for it, or set "
                "MIMZOO_CACHE to another folder; if none is running, remove the file `lock` there."
            ) from error

    # --- one preset -----------------------------------------------------------------------------

    def _publish(self, item: Item) -> Outcome:
        if item.folder is None and item.checkpoint is None:
            return Outcome(item.name, RECIPE_ONLY)
        check_licences(item.licences, self.allow_licences)
        work = self.work / item.name
        for name in ("stage", "back", "manifest"):
            shutil.rmtree(work / name, ignore_errors=True)
        work.mkdir(exist_ok=True)
        self.progress(item.name, "looking")
        source = source_of(item, self.checkpoints)
        state = self._state(item, work)
        if state and state.complete and same_source(state.manifest, source) and not self.again:
            return self._finished(item, state, work)
        self.progress(item.name, "converting" if item.folder is None else "reading")
        self._forget_models()
        folder = obtain(item, source, work)
        check_licences(Contents.read(folder).licences, self.allow_licences)
        staged, manifest = self._stage(item, source, folder, work)
        files = {path.name: path.stat().st_size for path in sorted(staged.iterdir())}
        note = readable(sum(files.values()))
        if others := left_out(folder):
            note += f"; not published: {', '.join(map(one_line, others))}"
        text = (staged / "README.md").read_text(encoding="utf-8")
        if self.dry_run:
            with contextlib.suppress(*NO_ANSWER):
                validate(text)
            return Outcome(item.name, PLANNED, note, files, text)
        validate(text)
        self.progress(item.name, "uploading")
        commit = self.remote.upload(item.name, staged, state)
        self._confirm(item, commit, manifest, work)
        return Outcome(item.name, PUBLISHED, note, files)

    def _state(self, item: Item, work: Path) -> State | None:
        try:
            return self.remote.state(item.name, work)
        except NO_ANSWER:
            if not self.dry_run:
                raise
            return None

    def _finished(self, item: Item, state: State, work: Path) -> Outcome:
        """Does what an interrupted publisher left undone after its upload."""
        manifest = state.manifest
        assert manifest is not None
        if tag_of(manifest) in state.tags:
            if not self.dry_run:
                self._collect(item)
            return Outcome(item.name, THERE)
        if self.dry_run:
            return Outcome(item.name, PLANNED, "is uploaded, and would be read back and tagged")
        self._forget_models()
        self._confirm(item, state.commit, manifest, work)
        return Outcome(item.name, PUBLISHED, "had been uploaded before")

    def _stage(
        self, item: Item, source: Source, folder: Path, work: Path
    ) -> tuple[Path, dict[str, Any]]:
        """The folder to upload, and its manifest with a fingerprint of the loaded preset."""
        out = work / "stage" / item.name
        official = item.entry and item.folder is None
        recipe = self.recipe_of(item.entry) if official else None
        handle = handle_of(self.remote.repo(item.name))
        stage(folder, out, handle=handle, recipe=recipe, draw=self.draw)
        self.progress(item.name, "computing its fingerprint")
        manifest = write_manifest(
            out,
            name=item.name,
            licence=Contents.read(out).licence,
            source=source_record(source, folder),
            fingerprint=fingerprint(out),
        )
        return out, manifest

    def _confirm(self, item: Item, commit: str, manifest: dict[str, Any], work: Path) -> None:
        """Reads a commit back, compares it, tags it and puts it into its collection."""
        self.progress(item.name, "reading back")
        folder = self.remote.read_back(item.name, commit, work / "back")
        if read_manifest(folder) != manifest:
            raise ValueError(f"the manifest read back of {item.name} is not the uploaded one.")
        check_manifest(folder)
        self._forget_models()
        compare(fingerprint(folder), manifest["fingerprint"])
        self.remote.tag(item.name, tag_of(manifest), commit)
        self._collect(item)

    def _collect(self, item: Item) -> None:
        if item.name in catalogue():
            grid = grids()[catalogue()[item.name].grid]
            self.remote.collect(grid["title"], grid["paper"], item.name)

    @staticmethod
    def _forget_models() -> None:
        """Frees the memory of earlier models and resets Keras' numbering of layers.

        Files of weights hold these numbers: the same weights always give the same files.
        """
        import keras

        keras.utils.clear_session()


def tag_of(manifest: dict[str, Any]) -> str:
    """The tag of a preset's weights, by the rule at the top of this file."""
    files = sorted(manifest["files"].items())
    lines = (f"{e['sha256']}  {name}\n" for name, e in files if name.endswith(".weights.h5"))
    return f"weights-{hashlib.sha256(''.join(lines).encode()).hexdigest()[:12]}"
