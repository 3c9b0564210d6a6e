"""What a repository on the Hub has, and which of it a preset or checkpoint consists of."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimzoo.hub.cache import repository_folder
from mimzoo.hub.fetch import Unreachable, reason
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.version import __version__

# The only kinds of file that are ever downloaded: never code.
_PRESET = (".json", ".weights.h5", ".csv", ".md", ".png")
_CHECKPOINT = (".safetensors", ".bin", ".pth", ".pt")
# What lies beside a checkpoint and tells something of it.
_BESIDE = ("config.json", "preprocessor_config.json", "README.md")
# How requests call themselves.
AGENT = {"library_name": "mimzoo", "library_version": __version__}


class NoRepository(ValueError):
    """There is no such repository on the Hub, as far as this user may know."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: with its folders.
        size: in bytes.
        blob: its name in the Hub's cache: sha256 of a large file, git's hash of a small one; ""
            where it is not known.
    """

    name: str
    size: int
    blob: str

    @property
    def large(self) -> bool:
        """Whether it is kept outside of git."""
        return len(self.blob) == 64


@dataclass(frozen=True)
class Listing:
    """The files of a repository at a commit."""

    commit: str
    files: tuple[HubFile, ...]

    def wanted(self, handle: Handle) -> list[HubFile]:
        """What a handle means: the files of a preset or of a checkpoint.

        Raises:
            ValueError: it means nothing of the kind; the message says what there is.
        """
        by_name = {file.name: file for file in self.files}
        if handle.path in by_name:
            if handle.path.endswith((*_CHECKPOINT, ".index.json")):
                folder = handle.path.rpartition("/")[0]
                names = [handle.path, *(_joined(folder, name) for name in _BESIDE)]
                if handle.path.endswith(".index.json"):
                    names += [_joined(folder, n) for n in self._in(folder) if _is_shard(n)]
                return [by_name[name] for name in names if name in by_name]
            kinds = ", ".join(_CHECKPOINT)
            raise ValueError(f"{handle} is no checkpoint: it has to end in {kinds}.")
        inside = self._in(handle.path)
        if not inside and handle.path:
            raise ValueError(f"{handle} does not exist: the repository has no such folder or file.")
        names = _of_preset(inside) or _of_checkpoint(inside, handle)
        if not names:
            folders = sorted({n.rpartition("/")[0] for n in by_name if n.endswith(".weights.h5")})
            known = f" Its folders {', '.join(folders)} have one." if folders else ""
            raise ValueError(f"{handle} has no preset and no checkpoint.{known}")
        return [by_name[_joined(handle.path, name)] for name in names]

    def _in(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, without it."""
        prefix = f"{folder}/" if folder else ""
        names = (f.name.removeprefix(prefix) for f in self.files if f.name.startswith(prefix))
        return [name for name in names if "/" not in name]


def preset_file(name: str) -> bool:
    """Whether a file of a preset's folder is downloaded with it."""
    return "/" not in name and name.endswith(_PRESET)


def _of_preset(names: list[str]) -> list[str]:
    weights = any(name.endswith(".weights.h5") for name in names)
    return [n for n in names if preset_file(n)] if weights and "config.json" in names else []


def _of_checkpoint(names: list[str], handle: Handle) -> list[str]:
    text = [name for name in names if name.endswith((".json", ".md"))]
    safe = [name for name in names if name.endswith(".safetensors")]
    if "model.safetensors" in safe:
        return [*text, "model.safetensors"]
    others = [name for name in names if name.endswith(_CHECKPOINT[1:])]
    weights = safe or [n for n in others if n.startswith("pytorch_model")] or others
    if len(weights) > 1 and not all(map(_is_shard, weights)) and "pytorch_model.bin" not in weights:
        shown = ", ".join(weights[:3]) + (", …" if len(weights) > 3 else "")
        raise ValueError(f"{handle} has {len(weights)} checkpoints ({shown}): name one of them.")
    return [*text, *weights] if weights else []


def _is_shard(name: str) -> bool:
    return re.search(r"-\d{5}-of-\d{5}\.(safetensors|bin)$", name) is not None


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def ask(handle: Handle) -> Listing:
    """The files of a repository, from the Hub, in one request.

    Raises:
        NoRepository: there is none of that name.
        Unreachable: the Hub does not answer, or not now.
        ValueError: it answers that this user may not read it, or that there is no such revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    try:
        info = HfApi(**AGENT).model_info(
            handle.repo, revision=handle.revision, files_metadata=True, timeout=_timeout()
        )
    except OfflineModeIsEnabled as error:
        raise Unreachable(
            f"{handle} is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub: load it "
            "once without, or download it elsewhere and give the folder."
        ) from error
    except HTTPError as error:
        raise hub_error(error, handle) from error
    except HFValidationError as error:
        raise ValueError(f"{handle.repo} is no name of a repository on the Hub.") from error
    except (ValueError, TypeError, KeyError) as error:
        # As of a network that wants a login first.
        raise Unreachable(
            f"{handle} cannot be read from the Hub: something else answers in its place."
        ) from error
    files = []
    for sibling in info.siblings or ():
        blob = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob or ""):
            raise ValueError(f"the Hub lists {sibling.rfilename} of {handle} without a hash.")
        files.append(HubFile(sibling.rfilename, sibling.size or 0, blob))
    return Listing(info.sha, tuple(files))


def cached_listing(handle: Handle) -> Listing | None:
    """The files of a repository as huggingface_hub's cache remembers them; None if it does not."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    folder = repository_folder(handle.repo)
    commit = handle.revision if handle.is_commit else None
    ref = folder / "refs" / (handle.revision or "main")
    if commit is None and ref.is_file():
        commit = ref.read_text(encoding="utf-8").strip()
    if not commit:
        return None
    try:
        tree = get_cached_repo_tree(handle.repo, revision=commit)
    except CachedRepoTreeNotFoundError:
        return None
    # What a link points at is named after its hash; without links, the hash is not known.
    links = {entry.path: folder / "snapshots" / commit / entry.path for entry in tree}
    blobs = {k: Path(os.readlink(v)).name if v.is_symlink() else "" for k, v in links.items()}
    return Listing(commit, tuple(HubFile(e.path, e.size, blobs[e.path]) for e in tree))


def _timeout() -> float:
    from huggingface_hub import constants

    return constants.HF_HUB_ETAG_TIMEOUT


def hub_error(error: Exception, handle: Handle) -> ValueError:
    """What huggingface_hub's error means, in one sentence; it shows no headers, so no token."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ValueError(
            f"{handle} is gated: accept its terms at {_page(handle)}, then log in with "
            "`hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(
            f"{HF_PREFIX}{handle.repo} has no revision {handle.revision!r}.{_refs(handle)}"
        )
    response = getattr(error, "response", None)
    if response is None:
        return Unreachable(f"{handle} cannot be read from the Hub: {reason(error)}.")
    status = response.status_code
    said = response.headers.get("X-Error-Message", "")
    if status == 401 and "Invalid credentials" in said:
        return ValueError(
            f"the Hub refuses the token that was sent for {handle}: log in again with "
            "`hf auth login`, or remove the environment variable HF_TOKEN."
        )
    # To strangers, the Hub says 401 of a repository that is private and of one that is not there.
    if status == 401 or isinstance(error, errors.RepositoryNotFoundError):
        return NoRepository(
            f"{HF_PREFIX}{handle.repo} is not on the Hub, or it is private: check the name; a "
            "private one needs `hf auth login`."
        )
    if status == 403:
        return ValueError(
            f"the Hub forbids to read {handle} (403): ask its owner, or log in with "
            "`hf auth login` as somebody who may."
        )
    if status == 429 or status >= 500:
        return Unreachable(
            f"{handle} cannot be read from the Hub: it answers {status}. Try again later."
        )
    return ValueError(f"{handle} cannot be read from the Hub: it answers {status}.")


def _page(handle: Handle) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{handle.repo}"


def _refs(handle: Handle) -> str:
    """The revisions that a repository has, if the Hub tells."""
    from huggingface_hub import HfApi

    try:
        refs: Any = HfApi().list_repo_refs(handle.repo)
    except Exception:  # an error of its own would hide the first one
        return ""
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f" It has {', '.join(names[:10])}{', …' if len(names) > 10 else ''}."
