"""What mimzoo asks of huggingface_hub's client, done once against the server of HF_ENDPOINT.

A script of its own, so that a client of another version can run it: `test_hub_server.py` does.
"""

import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi, errors, hf_hub_download, snapshot_download
from mimzoo_training.light import without_keras

REPO = "mimzoo/tiny"


def refused(kind: type[Exception], call, *arguments, **named) -> Exception:
    """The error of a call, which has to be of that kind."""
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"{call.__name__}{arguments} was not refused")


def publish(api: HfApi, folder: Path) -> None:
    assert api.whoami()["name"] == "me"
    api.create_repo(REPO)
    api.create_repo(REPO, exist_ok=True)
    assert refused(errors.HfHubHTTPError, api.create_repo, REPO).response.status_code == 409
    assert refused(errors.HfHubHTTPError, api.create_repo, "a/b").response.status_code == 403
    api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="first")
    api.create_tag(REPO, tag="v1")
    assert refused(errors.HfHubHTTPError, api.create_tag, REPO, tag="v1")
    api.create_tag(REPO, tag="v1", exist_ok=True)
    (folder / "config.json").write_text('{"a": 2}')
    api.upload_file(
        path_or_fileobj=folder / "config.json", path_in_repo="config.json", repo_id=REPO
    )
    api.create_branch(REPO, branch="next", revision="v1")
    api.delete_file("sub/curve.csv", REPO, revision="next")


def look(api: HfApi) -> None:
    refs = api.list_repo_refs(REPO)
    assert {ref.name for ref in refs.branches} == {"main", "next"}
    assert [ref.name for ref in refs.tags] == ["v1"]
    files = ["config.json", "model.weights.h5", "sub/curve.csv"]
    assert api.list_repo_files(REPO) == files
    assert api.list_repo_files(REPO, revision="next") == files[:2]
    tree = list(api.list_repo_tree(REPO, recursive=False))
    assert [entry.path for entry in tree] == ["config.json", "model.weights.h5", "sub"]
    info = api.model_info(REPO, revision="v1", files_metadata=True)
    assert info.sha == refs.tags[0].target_commit
    weights = info.siblings[1]
    assert (weights.size, weights.lfs.size, len(weights.lfs.sha256)) == (100_000, 100_000, 64)
    assert info.siblings[0].lfs is None
    assert info.siblings[0].size == 8
    assert [f.size for f in api.get_paths_info(REPO, ["config.json", "none"])] == [8]
    assert len(api.list_repo_commits(REPO)) >= 3
    assert [m.id for m in api.list_models(author="mimzoo")] == [REPO]
    assert api.file_exists(REPO, "config.json")
    assert not api.file_exists(REPO, "none.json")
    assert not api.repo_exists("mimzoo/none")


def load(folder: Path) -> None:
    """mimzoo's own download, on top of this client."""
    with without_keras():
        from mimzoo.hub.download import download
        from mimzoo.hub.handle import Handle

        path = download(Handle.parse(f"hf://{REPO}@v1"))
        assert (path / "config.json").read_text() == '{"a": 1}'
        weights = "model.weights.h5"
        assert (path / weights).read_bytes() == (folder / weights).read_bytes()
        assert download(Handle.parse(f"hf://{REPO}@{path.name}")) == path


def download(folder: Path) -> None:
    path = Path(snapshot_download(REPO, revision="v1", allow_patterns=["*.json", "*.h5"]))
    assert (path / "config.json").read_text() == '{"a": 1}'
    assert (path / "model.weights.h5").read_bytes() == (folder / "model.weights.h5").read_bytes()
    assert not (path / "sub").exists()
    assert Path(hf_hub_download(REPO, "sub/curve.csv")).read_text() == "a,b\n"
    refused(errors.RevisionNotFoundError, snapshot_download, REPO, revision="v2")
    refused(errors.RepositoryNotFoundError, snapshot_download, "mimzoo/none")
    refused(errors.EntryNotFoundError, hf_hub_download, REPO, "none.json")


def cards(folder: Path) -> None:
    api, readme = HfApi(), folder / "README.md"
    readme.write_text("---\nlicense: mit\n---\n# tiny\n")
    api.upload_folder(repo_id=REPO, folder_path=folder)
    for broken in ("license: [1", "license: {a: 1}"):
        readme.write_text(f"---\n{broken}\n---\n")
        refused(ValueError, api.upload_folder, repo_id=REPO, folder_path=folder)


def collections(api: HfApi) -> None:
    made = api.create_collection("MAE: all sizes", namespace="mimzoo", description="masked")
    again = api.create_collection("MAE: all sizes", namespace="mimzoo", exists_ok=True)
    assert made.slug == again.slug
    for number in range(5):
        api.create_repo(f"mimzoo/m{number}")
        api.add_collection_item(made.slug, f"mimzoo/m{number}", "model", note=f"number {number}")
    api.add_collection_item(made.slug, "mimzoo/m0", "model", exists_ok=True)
    refused(errors.HfHubHTTPError, api.add_collection_item, made.slug, "mimzoo/m0", "model")
    refused(errors.HfHubHTTPError, api.add_collection_item, made.slug, "mimzoo/none", "model")
    found = api.get_collection(made.slug)
    assert [item.item_id for item in found.items] == [f"mimzoo/m{n}" for n in range(5)]
    assert found.items[1].note == "number 1"
    # The listing is cut off, as on the real Hub.
    listed = list(api.list_collections(owner="mimzoo"))
    assert [(c.title, len(c.items)) for c in listed] == [("MAE: all sizes", 4)]
    api.update_collection_item(made.slug, found.items[4].item_object_id, position=0, note="first")
    api.delete_collection_item(made.slug, found.items[0].item_object_id)
    found = api.get_collection(made.slug)
    assert [item.item_id for item in found.items] == [f"mimzoo/m{n}" for n in (4, 1, 2, 3)]
    api.update_collection_metadata(made.slug, description="other")
    assert api.get_collection(made.slug).description == "other"
    api.delete_collection(made.slug)
    refused(errors.HfHubHTTPError, api.get_collection, made.slug)
    api.delete_repo("mimzoo/m4")
    assert not api.repo_exists("mimzoo/m4")


def main() -> None:
    """Runs everything and prints the client's version."""
    api = HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.json").write_text('{"a": 1}')
        (folder / "model.weights.h5").write_bytes(bytes(100_000))
        (folder / "sub").mkdir()
        (folder / "sub" / "curve.csv").write_text("a,b\n")
        publish(api, folder)
        look(api)
        load(folder)
        download(folder)
        cards(folder)
    collections(api)
    print("huggingface_hub", huggingface_hub.__version__)


if __name__ == "__main__":
    main()
