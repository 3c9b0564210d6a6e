"""What a repository on the Hub has, and which of it a preset or checkpoint consists of."""

import re
from dataclasses import dataclass
from pathlib import Path

from mimzoo.hub.errors import Unreachable, hub_error, with_retries
from mimzoo.hub.handle import Handle
from mimzoo.hub.manifest import portable
from mimzoo.version import __version__

# The only kinds of file that are ever downloaded: never code.
PRESET_ENDINGS = (".json", ".weights.h5", ".csv", ".md", ".png")
CHECKPOINT_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")
# Configuration and card beside a checkpoint.
_BESIDE = ("config.json", "preprocessor_config.json", "README.md")
# How requests call themselves.
AGENT = {"library_name": "mimzoo", "library_version": __version__}


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: with its folders.
        size: in bytes.
        digest: sha256 of a large file, git's hash of a small one; "" where it is not known.
    """

    name: str
    size: int
    digest: str

    @property
    def large(self) -> bool:
        """Whether it is kept outside of git."""
        return len(self.digest) == 64


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
            if handle.path.endswith((*CHECKPOINT_ENDINGS, ".index.json")):
                folder = handle.path.rpartition("/")[0]
                names = [handle.path, *(_joined(folder, name) for name in _BESIDE)]
                if handle.path.endswith(".index.json"):
                    names += [_joined(folder, n) for n in self._in(folder) if _is_shard(n)]
                return [by_name[name] for name in names if name in by_name]
            kinds = ", ".join(CHECKPOINT_ENDINGS)
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
    return "/" not in name and name.endswith(PRESET_ENDINGS)


def _of_preset(names: list[str]) -> list[str]:
    weights = any(name.endswith(".weights.h5") for name in names)
    return [n for n in names if preset_file(n)] if weights and "config.json" in names else []


def _of_checkpoint(names: list[str], handle: Handle) -> list[str]:
    text = [name for name in names if name.endswith((".json", ".md"))]
    safe = [name for name in names if name.endswith(".safetensors")]
    if "model.safetensors" in safe:
        return [*text, "model.safetensors"]
    others = [name for name in names if name.endswith(CHECKPOINT_ENDINGS[1:])]
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
        ValueError: this user may not read it, or there is no such revision.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    try:
        info = with_retries(
            HfApi(**AGENT).model_info,
            handle.repo,
            revision=handle.revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
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
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest or ""):
            raise ValueError(f"the Hub lists {sibling.rfilename} of {handle} without a hash.")
        if not portable(sibling.rfilename):
            raise ValueError(f"the Hub lists {sibling.rfilename!r} of {handle}, no safe file name.")
        files.append(HubFile(sibling.rfilename, sibling.size or 0, digest))
    return Listing(info.sha, tuple(files))


def listing_of(folder: Path, commit: str) -> Listing:
    """The files of a repository's folder on this machine; their hashes are not known."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    sizes = (path.stat().st_size for path in paths)
    return Listing(
        commit, tuple(HubFile(n, size, "") for n, size in zip(names, sizes, strict=True))
    )
