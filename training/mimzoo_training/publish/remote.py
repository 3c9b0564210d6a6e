"""An organisation on the Hub: what publishing reads of it and writes to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_collection,
    get_token,
    snapshot_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)

from mimzoo.hub.errors import with_retries
from mimzoo.hub.escape import one_line
from mimzoo.hub.listing import AGENT
from mimzoo.hub.manifest import MANIFEST, parse_manifest
from mimzoo.version import __version__

_OVERTAKEN = (
    "somebody else has written to {} meanwhile, so nothing was uploaded: look at it, then run the "
    "same command again."
)
_TITLE, _DESCRIPTION = 59, 149  # characters that the Hub allows for a collection


@dataclass(frozen=True)
class State:
    """What a repository holds.

    Attributes:
        commit: of its default branch.
        files: name -> sha256 of a large file, None of a small one.
        manifest: of the preset that was published there; None if there is none.
        tags: name -> commit.
    """

    commit: str
    files: dict[str, str | None]
    manifest: dict[str, Any] | None
    tags: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether all is there that its manifest lists; large files by their hash."""
        if self.manifest is None:
            return False
        return all(
            name in self.files and self.files[name] in (None, listed["sha256"])
            for name, listed in self.manifest["files"].items()
        )


class Remote:
    """The repositories and collections of an organisation.

    Args:
        organisation: or a user.
    """

    def __init__(self, organisation: str) -> None:
        self.organisation = organisation
        self.api = HfApi(**AGENT)
        self._collections: dict[str, tuple[str, set[str]]] = {}

    def repo(self, name: str) -> str:
        """The repository of a preset."""
        return f"{self.organisation}/{name}"

    def check_writable(self) -> None:
        """Checks that the token may write here, as far as the Hub says.

        Raises:
            ValueError: no token, one that the Hub refuses or that only reads, or no member.
        """
        try:
            me = with_retries(self.api.whoami)
        except LocalTokenNotFoundError as error:
            raise ValueError(
                "there is no token: log in with `hf auth login`, or set the environment variable "
                "HF_TOKEN."
            ) from error
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code == 401:
                raise ValueError(
                    "the Hub refuses the token: log in again with `hf auth login`, or set the "
                    "environment variable HF_TOKEN to one that is valid."
                ) from error
            raise
        if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise ValueError("the token may only read: make one that may write, and log in again.")
        roles = {org["name"]: org.get("roleInOrg") for org in me.get("orgs", [])}
        if self.organisation not in {me["name"], *roles}:
            raise ValueError(
                f"{me['name']} is no member of {self.organisation}: ask its owner, or name "
                "another --org."
            )
        if roles.get(self.organisation) == "read":
            raise ValueError(f"{me['name']} may only read in {self.organisation}: ask its owner.")

    def state(self, name: str, scratch: Path) -> State | None:
        """What the repository of a preset holds; no weights are downloaded.

        Args:
            name: of the preset.
            scratch: a folder for the manifest.

        Returns:
            None if there is no such repository.
        """
        repo = self.repo(name)
        try:
            info = with_retries(self.api.model_info, repo, files_metadata=True)
        except HfHubHTTPError as error:
            # Strangers get 401 for a repository that does not exist.
            status = getattr(error.response, "status_code", None)
            stranger = status == 401 and get_token() is None
            if stranger or isinstance(error, RepositoryNotFoundError):
                return None
            raise
        siblings = info.siblings or []
        files = {one.rfilename: one.lfs.sha256 if one.lfs else None for one in siblings}
        manifest, tags = None, {}
        if MANIFEST in files:
            path = with_retries(
                self.api.hf_hub_download,
                repo,
                MANIFEST,
                revision=info.sha,
                cache_dir=scratch / "manifest",
            )
            manifest = _read(Path(path))
            refs = with_retries(self.api.list_repo_refs, repo)
            tags = {tag.name: tag.target_commit for tag in refs.tags}
        return State(str(info.sha), files, manifest, tags)

    def upload(self, name: str, folder: Path, state: State | None) -> str:
        """Makes a repository hold what a folder does, in one commit.

        Large files that are there already are not sent again. `HfApi.upload_folder` may split
        many files into several commits, with half a preset in between.

        Args:
            name: of the preset.
            folder: of its files.
            state: of the repository when it was looked at; None: there was none.

        Returns:
            The commit.

        Raises:
            ValueError: somebody else has written to the repository since.
        """
        repo = self.repo(name)
        if state is None:
            self.api.create_repo(repo, exist_ok=True)
            made = self.state(name, folder.parent)
            if made is None or made.manifest is not None:
                raise ValueError(_OVERTAKEN.format(repo))
            parent = made.commit
        else:
            parent = state.commit
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
        names = {path.name for path in paths}
        # Only what was published before goes; a LICENSE that somebody added stays.
        listed = state.manifest["files"] if state and state.manifest else {}
        gone = sorted((set(listed) & set(state.files if state else ())) - names)
        operations = [
            *(CommitOperationAdd(path.name, str(path)) for path in paths),
            *(CommitOperationDelete(one) for one in gone),
        ]
        try:
            done = self.api.create_commit(
                repo,
                operations,
                commit_message=f"Published by mimzoo {__version__}",
                parent_commit=parent,
            )
        except HfHubHTTPError as error:
            if getattr(error.response, "status_code", None) == 412:
                raise ValueError(_OVERTAKEN.format(repo)) from error
            raise
        return done.oid

    def read_back(self, name: str, commit: str, folder: Path) -> Path:
        """Downloads a commit into a cache of its own, in `folder`."""
        return Path(snapshot_download(self.repo(name), revision=commit, cache_dir=folder))

    def tag(self, name: str, tag: str, commit: str) -> None:
        """Names a commit; nothing happens if the name is there."""
        self.api.create_tag(self.repo(name), tag=tag, revision=commit, exist_ok=True)

    def collect(self, title: str, description: str, name: str) -> None:
        """Puts a preset into a collection of the organisation, which is made if need be."""
        if title not in self._collections:
            self._collections[title] = self._collection(title[:_TITLE], description[:_DESCRIPTION])
        slug, there = self._collections[title]
        repo = self.repo(name)
        if repo not in there:
            self.api.add_collection_item(slug, repo, "model", exists_ok=True)
            there.add(repo)

    def _collections_there(self) -> list[Any]:
        return list(self.api.list_collections(owner=self.organisation))

    def _collection(self, title: str, description: str) -> tuple[str, set[str]]:
        for known in with_retries(self._collections_there):
            if known.title == title:
                # The list has only some of the items.
                items = with_retries(get_collection, known.slug).items
                return known.slug, {item.item_id for item in items}
        made = self.api.create_collection(
            title, namespace=self.organisation, description=description, exists_ok=True
        )
        return made.slug, set()


def one_sentence(error: BaseException) -> str:
    """What an error says, on one line, without the token."""
    text = one_line(error) or type(error).__name__
    response = getattr(error, "response", None)
    if isinstance(error, HfHubHTTPError) and response is not None:
        said = response.headers.get("X-Error-Message") or response.reason_phrase
        text = f"the Hub answers {response.status_code} ({said})"
        if response.status_code >= 500 or response.status_code == 429:
            text += "; run the same command again later to continue"
        text += "."
    token = get_token()
    return text.replace(token, "…") if token else text


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return parse_manifest(path.read_bytes())
    except ValueError:
        return None
