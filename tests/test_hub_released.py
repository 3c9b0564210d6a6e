"""Names of which others have the weights, files over https, and the small parts of the hub."""

import hashlib
import json
import re
import sys

import huggingface_hub
import pytest
from checkpoints import write
from mimzoo_training.cli import main
from test_convert_layouts import FACTS, mae, randomized, to_tensors
from test_hub_loading import NAME, entry, go_offline, sound

from mimzoo.convert import get_layout
from mimzoo.hub import Checkpoint, cache_folder, errors, forget, resolve, web
from mimzoo.hub.cache import cached_digest
from mimzoo.hub.catalogue import catalogue
from mimzoo.hub.handle import Handle
from mimzoo.hub.manifest import check_manifest, write_manifest
from mimzoo.pretraining import MAE

pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An official checkpoint."""
    state = to_tensors(get_layout("mae_full"), randomized(mae()))
    return write(state, tmp_path_factory.mktemp("official") / "official.safetensors")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(errors, "WAIT", 0.0)
    monkeypatch.setattr(web, "TIMEOUT", 0.5)
    forget()


@pytest.fixture
def official(hub, weights, monkeypatch):
    """Puts a name with an official checkpoint into the catalogue."""

    def add(url=None, **more) -> Checkpoint:
        hub.add("official/web", {"mae/official.safetensors": weights})
        url = url or f"{hub.url}/official/web/resolve/main/mae/official.safetensors"
        known = {"digest": f"sha256:{sha256(weights)[:8]}", "hints": FACTS} | more
        file = url.rpartition("/")[2]
        checkpoint = Checkpoint(url, file, "mae_full", "CC-BY-NC-4.0", "its authors", **known)
        monkeypatch.setitem(catalogue(), NAME, entry(NAME, checkpoint))
        return checkpoint

    return add


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_official_file_is_converted_once(hub, official, tmp_path, capsys):
    checkpoint = official()
    task = MAE.from_preset(NAME)
    assert task.backbone.num_heads == 3
    printed = capsys.readouterr()
    assert re.fullmatch(
        f"{NAME}: converted from the layout mae_full of {checkpoint.url}, licence of the weights "
        rf"CC-BY-NC-4\.0, into {cache_folder()}/converted/\w+\n",
        printed.out,
    )
    assert printed.err.startswith(f"downloading {checkpoint.url} into {cache_folder()}/downloads/")
    # One question for a repository of ours, one file.
    lines = [entry.line for entry in hub.log]
    page = "/official/web/resolve/main/mae/official.safetensors"
    assert lines[:2] == [f"GET /api/models/mimzoo/{NAME}", f"GET {page}"]
    assert lines[2:] == [f"GET /_cdn/{sha256(cache_folder() / 'downloads/127.0.0.1' / page[1:])}"]
    folder = resolve(NAME)
    record = json.loads((folder / "conversion.json").read_text())
    assert (record["source"], record["licence"]) == (checkpoint.url, "CC-BY-NC-4.0")
    hub.stop()
    forget()
    assert resolve(NAME) == folder
    assert len(hub.log) == 3
    sound(tmp_path / "home")


def test_ours_come_first(hub, official, weights, tmp_path):
    official()
    randomized(mae()).save_to_preset(str(tmp_path / "ours"))
    hub.add(f"mimzoo/{NAME}", tmp_path / "ours")
    assert "models--mimzoo" in str(resolve(NAME))
    assert not hub.requests("official")


@pytest.mark.parametrize("digest", ["md5", "sha256", None])
def test_a_file_on_the_hub(digest, hub, official, weights, capsys, monkeypatch):
    name = "folder/official.safetensors"
    hub.add("official/models", {name: weights, "README.md": "---\nlicense: mit\n---\n"})
    data = weights.read_bytes()
    digests = {"md5": hashlib.md5(data).hexdigest()[:6], "sha256": sha256(weights)}
    official(f"hf://official/models/{name}", digest=digest and f"{digest}:{digests[digest]}")
    folder = resolve(NAME)
    assert json.loads((folder / "conversion.json").read_text())["licence"] == "CC-BY-NC-4.0"
    asked = hub.count()
    forget()
    assert resolve(NAME) == folder
    assert hub.count() == asked
    forget()
    official(f"hf://official/models/{name}", digest="md5:00000000")
    (cache_folder() / "names" / f"{NAME}.json").unlink()
    with pytest.raises(ValueError, match="is no longer the file of the catalogue: its md5 is"):
        resolve(NAME)


def test_the_hub_cannot_be_asked(hub, official, capsys, monkeypatch):
    official()
    hub.fail(f"/api/models/mimzoo/{NAME}", status=503)
    with pytest.raises(ValueError, match=f"hf://mimzoo/{NAME} cannot be read .* answers 503"):
        resolve(NAME)
    assert not hub.requests("official")
    hub.faults.clear()
    folder = resolve(NAME)
    (cache_folder() / "names" / f"{NAME}.json").unlink()
    hub.fail(f"/api/models/mimzoo/{NAME}", status=503)
    capsys.readouterr()
    forget()
    assert resolve(NAME) == folder
    printed = "answers 503. Try again later. Using official.safetensors, which is in the cache.\n"
    assert capsys.readouterr().err.endswith(printed)
    go_offline(monkeypatch)
    forget()
    assert resolve(NAME) == folder
    assert not capsys.readouterr().err


def test_by_hand(hub, official):
    link = "https://drive.google.com/file/d/1x/view"
    official(link, digest=None, hints={"num_heads": 3, "window_size": [7, 7]})
    with pytest.raises(ValueError, match="browser") as caught:
        resolve(NAME)
    assert str(caught.value) == (
        f"the weights of {NAME!r} can only be downloaded in a browser, from {link}: then run "
        "`mimzoo convert FILE --out DIR --layout mae_full --set num_heads=3 "
        "--set 'window_size=[7, 7]'` and load DIR."
    )


FAILURES = {
    "wrong digest": (
        {"pattern": "GET /_cdn", "corrupt": True},
        r"is not the expected file: its sha256 is \w{64}, not \w{8}\. It was removed: try again; "
        "if it stays so, the file has changed at its source",
    ),
    "404": ({"pattern": "GET /official", "status": 404}, "the server answers 404"),
    "403": ({"pattern": "GET /official", "status": 403}, "the server answers 403"),
    "500": ({"pattern": "GET /official", "status": 500}, "answers 500. Try again later."),
    "cut off": ({"pattern": "GET /_cdn", "stop_after": 0}, "the connection was cut off. Try again"),
    "hang": ({"pattern": "GET /_cdn", "hang_after": 0}, "the server did not answer in time"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failures_over_https(kind, hub, official, tmp_path):
    official()
    fault, said = FAILURES[kind]
    hub.fail(**fault)
    with pytest.raises(ValueError, match=said) as caught:
        resolve(NAME)
    assert "official.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    downloads = cache_folder() / "downloads"
    assert not list(downloads.rglob("*.safetensors"))
    hub.faults.clear()
    assert resolve(NAME)
    assert not list(downloads.rglob("*.incomplete"))
    sound(tmp_path / "home")


def test_fetch_refuses(tmp_path, hub, monkeypatch):
    for url in ("http://example.com/x", "ftp://example.com/x", "file:///etc/passwd", "x.pth"):
        with pytest.raises(ValueError, match="is refused: only https:// addresses"):
            web.fetch(url, tmp_path / "x")
    hub.fail("GET /o", status=404)
    with pytest.raises(ValueError, match="cannot be downloaded") as caught:
        web.fetch(f"{hub.url.replace('//', '//me:secret@')}/o/w?key=secret", tmp_path / "x")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="is no digest: write sha256:"):
        web.differs(tmp_path, "crc:12345678")
    go_offline(monkeypatch)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids to download it"):
        web.fetch(f"{hub.url}/o/w", tmp_path / "x")


def test_a_bar_on_a_terminal_only(hub, tmp_path, monkeypatch, capsys):
    hub.add("o/w", {"x.bin": b"12345678"})
    url = f"{hub.url}/o/w/resolve/main/x.bin"
    web.fetch(url, tmp_path / "a")
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    web.fetch(url, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"12345678"


def test_handles():
    commit = 40 * "a"
    for text, parts in {
        "hf://a/b": ("a/b", None, ""),
        "hf://a/b/": ("a/b", None, ""),
        "hf://a/b@v1": ("a/b", "v1", ""),
        "hf://a/b.c@refs%2Fpr%2F1/x/y.pth": ("a/b.c", "refs/pr/1", "x/y.pth"),
        f"hf://a/b@{commit}/x": ("a/b", commit, "x"),
    }.items():
        handle = Handle.parse(text)
        assert (handle.repo, handle.revision, handle.path) == parts
        assert str(handle) == text.rstrip("/")
        assert handle.is_commit == (handle.revision == commit)
    for wrong in ("hf://", "hf://a", "hf://a/b@", "hf://a/b/../c", "hf://a//b", "hf://../b/c"):
        with pytest.raises(ValueError, match="is no handle: write hf://org/repo"):
            Handle.parse(wrong)


def test_manifests(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.png").write_bytes(b"png")
    written = write_manifest(tmp_path, probe={"mean": 0.5})
    assert written == json.loads((tmp_path / "manifest.json").read_text())
    assert written["probe"] == {"mean": 0.5}
    assert written["files"]["b.png"] == {"sha256": sha256(tmp_path / "b.png"), "size": 3}
    assert write_manifest(tmp_path, probe={"mean": 0.5}) == written
    check_manifest(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(ValueError, match=r"lacks b\.png, which its manifest\.json lists"):
        check_manifest(tmp_path)
    check_manifest(tmp_path, lambda name: name.endswith(".json"))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match=r"a\.json in .* has sha256 \w+, its manifest\.json says"):
        check_manifest(tmp_path, lambda name: name.endswith(".json"))
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        check_manifest(tmp_path)


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    import os

    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x"
    path.write_bytes(b"1")
    os.utime(path, (1, 1))
    first = cached_digest(path)
    monkeypatch.setattr("mimzoo.hub.cache.digest", lambda path: "anew")
    assert cached_digest(path) == first == hashlib.sha256(b"1").hexdigest()
    os.utime(path, (2, 2))
    assert cached_digest(path) == "anew"


def test_cache_command(hub, official, tmp_path, capsys):
    official()
    resolve(NAME)
    hub.add("a/b", {"config.json": "{}"})
    huggingface_hub.hf_hub_download("a/b", "config.json")
    partial = cache_folder() / "downloads" / "x.pth.incomplete"
    partial.write_bytes(bytes(2000))
    capsys.readouterr()
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[2] == str(cache_folder())
    assert lines[1].split()[2] == str(tmp_path / "home" / "hub")
    kinds = [line.split()[0] for line in lines[3:]]
    assert kinds == ["converted", "downloaded", "partial", "Hub", "together"]
    assert lines[5].split() == ["partial", "x.pth.incomplete", "2.0", "kB"]
    assert len({len(line.rstrip()) for line in lines[3:]}) == 1
    assert main(["cache", "--clear-partial"]) == 0
    assert "removed 1 partial downloads, 2.0 kB" in capsys.readouterr().out
    assert not partial.exists()
