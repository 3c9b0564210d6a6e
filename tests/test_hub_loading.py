"""Presets from the Hub: by name and handle, with and without network, and every way it fails."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import keras
import numpy as np
import pytest
from hub_server import TOKEN
from test_convert_layouts import mae, randomized

from mimzoo.hub import cache, errors, forget, resolve, web
from mimzoo.hub.catalogue import Preset, catalogue
from mimzoo.hub.manifest import write_manifest
from mimzoo.models import Backbone
from mimzoo.pretraining import MAE

NAME = "vit_tiny_mae_test_1ep"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A published preset."""
    folder = tmp_path_factory.mktemp("published")
    randomized(mae()).save_to_preset(str(folder))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "curve.csv").write_text("epoch,loss\n1,0.5\n")
    write_manifest(folder, probe=[1.0])
    return folder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(errors, "WAIT", 0.0)
    monkeypatch.setattr(web, "TIMEOUT", 0.5)
    forget()
    monkeypatch.setitem(catalogue(), NAME, entry(NAME))


def entry(name: str, checkpoint=None) -> Preset:
    """An entry of the catalogue that is not bundled."""
    axes = dict(zip(("method", "backbone", "size", "data", "length"), "abcde", strict=True))
    state = "released elsewhere" if checkpoint else "recipe only"
    texts = (state, "Apache-2.0", "ours", "vit_nano_mae_fmnist_20ep")
    return Preset(name, "test", "pretraining", axes, "", *texts, [], [], checkpoint)


def sound(home: Path) -> None:
    """Every file of the caches that has its final name is what that name says."""
    hub = home / "hub"
    for blob in hub.glob("models--*/blobs/*"):
        if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            data = blob.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            assert blob.name in (hashlib.sha256(data).hexdigest(), git), blob
    for path in hub.glob("models--*/snapshots/**/*"):
        assert path.exists(), path
    for path in (home / "mimzoo").rglob("*.json"):
        json.loads(path.read_text())


def go_offline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


# --- loading ------------------------------------------------------------------------------------


def test_by_name_and_again_without_the_hub(hub, folder, tmp_path, capsys):
    commit = hub.add(f"mimzoo/{NAME}", folder)
    task = MAE.from_preset(NAME)
    kernels = [x.decoder.embed.kernel for x in (task, MAE.from_preset(str(folder)))]
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, kernels))
    printed = capsys.readouterr().out
    assert printed == f"{NAME}: from hf://mimzoo/{NAME}@{commit}, licence of the weights mit\n"
    # One listing of ours, one of huggingface_hub; each large file once.
    assert hub.count("GET /api/") == 2
    assert hub.count("GET /_cdn/") == 2
    asked = hub.count()
    forget()
    assert Backbone.from_preset(NAME).name
    assert hub.count() == asked
    hub.stop()
    assert resolve(NAME) == resolve(f"hf://mimzoo/{NAME}@{commit}")
    assert not capsys.readouterr().out
    sound(tmp_path / "home")


@pytest.mark.one_backend
def test_by_handle_only_what_is_asked_for(hub, folder, tmp_path, monkeypatch, capsys):
    files = {f"sub/nano/{p.name}": p for p in folder.iterdir()}
    files |= {"model.py": "exit()", "sub/nano/evil.py": "exit()", "sub/big.h5": b"1", "x.pkl": b"1"}
    commit = hub.add("a/b", files, tag="v1")
    hub.add("a/b", {"sub/nano/curve.csv": "epoch,loss\n", "sub/nano/manifest.json": "{"})
    handle = "hf://a/b@v1/sub/nano"
    path = resolve(handle)
    names = {p.name for p in folder.iterdir()}
    assert {p.name for p in path.iterdir()} == names
    assert path.parts[-4:] == ("snapshots", commit, "sub", "nano")
    assert {e.path.rpartition("/")[2] for e in hub.requests("HEAD")} == names
    # Once more in this process, nothing; in another one, what the tag means by now.
    asked = hub.count()
    assert resolve(handle) == path
    assert hub.count() == asked
    forget()
    assert resolve(handle) == path
    assert hub.count() == asked + 1
    assert resolve(f"hf://a/b@{commit}/sub/nano") == path
    assert hub.count() == asked + 1
    capsys.readouterr()
    hub.stop()
    forget()
    assert resolve(handle) == path
    assert capsys.readouterr().err == (
        f"{handle} cannot be read from the Hub: the server cannot be reached (ConnectError). "
        f"Using the cached copy, {commit[:7]}.\n"
    )
    go_offline(monkeypatch)
    forget()
    assert resolve(handle) == path
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="is not in the cache, and HF_HUB_OFFLINE forbids"):
        resolve("hf://a/b@v2/sub/nano")
    sound(tmp_path / "home")


@pytest.mark.one_backend
def test_what_others_downloaded_is_used(hub, folder, tmp_path, monkeypatch):
    commit = hub.add("a/b", folder)
    huggingface_hub.hf_hub_download("a/b", "config.json")
    go_offline(monkeypatch)
    with pytest.raises(ValueError, match="is not in the cache"):
        resolve("hf://a/b")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    path = huggingface_hub.snapshot_download("a/b")
    hub.stop()
    assert str(resolve("hf://a/b")) == path
    go_offline(monkeypatch)
    shutil.rmtree(tmp_path / "home" / "mimzoo")
    forget()
    assert str(resolve(f"hf://a/b@{commit}")) == path
    # It is checked against its manifest.
    shutil.rmtree(tmp_path / "home" / "mimzoo")
    forget()
    weights = Path(path) / "model.weights.h5"
    data = weights.read_bytes()
    weights.resolve().write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"model\.weights\.h5 in .* has sha256"):
        resolve("hf://a/b")
    sound(tmp_path / "home")


@pytest.mark.one_backend
def test_another_organisation_and_a_new_version(hub, folder, monkeypatch):
    hub.add(f"mimzoo/{NAME}", folder)
    hub.add(f"friends/{NAME}", folder)
    monkeypatch.setenv("MIMZOO_ORG", "friends")
    assert "models--friends" in str(resolve(NAME))
    monkeypatch.delenv("MIMZOO_ORG")
    assert "models--mimzoo" in str(resolve(NAME))
    monkeypatch.setattr("mimzoo.hub.released.__version__", "99")
    forget()
    newer = hub.add(f"mimzoo/{NAME}", {"curve.png": b"png"})
    assert newer in str(resolve(NAME))


# --- failures -----------------------------------------------------------------------------------

REVISION = "v1"
PRESET = f"hf://a/b@{REVISION}"
LIST, WEIGHTS = "GET /api/models/a/b", "GET /_cdn/"
AT = "hf://a/b@{commit}"

FAILURES = {
    "no Hub": (
        {"pattern": LIST, "stop_after": 5, "status": 200},
        f"{PRESET} cannot be read from the Hub: the connection was cut off.",
    ),
    "a page": (
        {"pattern": LIST, "status": 203},
        f"{PRESET} cannot be read from the Hub: something else answers in its place.",
    ),
    "500": (
        {"pattern": LIST, "status": 500},
        f"{PRESET} cannot be read from the Hub: it answers 500. Try again later.",
    ),
    "429": (
        {"pattern": LIST, "status": 429},
        f"{PRESET} cannot be read from the Hub: it answers 429. Try again later.",
    ),
    "403": (
        {"pattern": LIST, "status": 403},
        f"the Hub forbids to read {PRESET} (403): ask its owner, or log in with `hf auth login` "
        "as somebody who may.",
    ),
    "gated": (
        {"pattern": "HEAD /a/b/resolve", "status": 403, "code": "GatedRepo"},
        "hf://a/b@{commit} is gated: accept its terms at {url}/a/b, then log in with "
        "`hf auth login`.",
    ),
    "token": (
        {"pattern": LIST, "status": 401, "message": "Invalid credentials in Authorization header"},
        f"the Hub refuses the token that was sent for {PRESET}: log in again with "
        "`hf auth login`, or remove the environment variable HF_TOKEN.",
    ),
    "401": (
        {"pattern": LIST, "status": 401},
        "hf://a/b is not on the Hub, or it is private: check the name; a private one needs "
        "`hf auth login`.",
    ),
    "404": (
        {"pattern": LIST, "status": 404, "code": "RepoNotFound"},
        "hf://a/b is not on the Hub, or it is private: check the name; a private one needs "
        "`hf auth login`.",
    ),
    "hang": (
        {"pattern": LIST, "hang_after": 0},
        f"{PRESET} cannot be read from the Hub: the server did not answer in time.",
    ),
    "file 404": (
        {"pattern": "HEAD /a/b/resolve/.*h5", "status": 404, "code": "EntryNotFound"},
        f"{AT} cannot be read from the Hub: it answers 404.",
    ),
    "file 500": (
        {"pattern": WEIGHTS, "status": 500},
        f"{AT} cannot be read from the Hub: it answers 500. Try again later.",
    ),
    "file hang": (
        {"pattern": WEIGHTS, "hang_after": 0},
        f"{AT} cannot be read from the Hub: the server did not answer in time.",
    ),
    "truncated": (
        {"pattern": WEIGHTS, "stop_after": 0},
        f"{AT} cannot be read from the Hub: the connection was cut off.",
    ),
    "digest": (
        {"pattern": WEIGHTS, "corrupt": True},
        f"model.weights.h5 of {AT} was received with the hash {{found}}, the Hub lists {{wanted}}: "
        "it was removed, try again.",
    ),
    "small digest": (
        {"pattern": "GET /a/b/resolve/.*/curve.csv", "corrupt": True},
        f"curve.csv of {AT} was received with the hash {{found}}, the Hub lists {{wanted}}: it was "
        "removed, try again.",
    ),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", FAILURES)
def test_failures(kind, hub, folder, tmp_path, monkeypatch):
    """One sentence each; the cache stays sound, and the next attempt succeeds."""
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(huggingface_hub.constants, name, 0.2)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # of huggingface_hub's own retries
    commit = hub.add("a/b", folder, tag=REVISION)
    fault, sentence = FAILURES[kind]
    hub.fail(**fault)
    with pytest.raises(ValueError, match="a/b") as caught:
        resolve(PRESET)
    words = {"commit": commit, "url": hub.url, "found": "[0-9a-f]+", "wanted": "[0-9a-f]+"}
    expected = re.escape(sentence).replace(r"\{", "{").replace(r"\}", "}").format(**words)
    assert re.fullmatch(expected, str(caught.value))
    assert TOKEN not in str(caught.value)
    sound(tmp_path / "home")
    hub.faults.clear()
    assert resolve(PRESET).name == commit
    sound(tmp_path / "home")


@pytest.mark.one_backend
def test_wrong_names_revisions_and_folders(hub, folder, tmp_path, monkeypatch):
    hub.add("a/b", {f"nano/{p.name}": p for p in folder.iterdir()}, tag="v1")
    hub.add("a/many", {"x.pth": b"1", "y.pth": b"2", "code.py": "exit()"})
    hub.add("a/secret", folder, private=True)
    sentences = {
        "hf://a/b@v2/nano": "hf://a/b has no revision 'v2'. It has main, v1.",
        "hf://a/b/micro": "hf://a/b@{b}/micro does not exist: the repository has no such folder "
        "or file.",
        "hf://a/b": "hf://a/b@{b} has no preset and no checkpoint. Its folders nano have one.",
        "hf://a/many": "hf://a/many@{many} has 2 checkpoints (x.pth, y.pth): name one of them.",
        "hf://a/many/code.py": "hf://a/many@{many}/code.py is no checkpoint: it has to end in "
        ".safetensors, .bin, .pth, .pt.",
        "hf://a": "hf://a is no handle: write hf://org/repo[@revision][/folder or file].",
        "hf://a/none": "hf://a/none is not on the Hub, or it is private: check the name; a "
        "private one needs `hf auth login`.",
        "vit_tiny_mae_test_2ep": "unknown preset 'vit_tiny_mae_test_2ep': neither a name of the "
        f"catalogue nor a folder. Nearest names: {NAME}",
    }
    commits = {n: hub.repositories[f"a/{n}"].branches["main"] for n in ("b", "many")}
    for wrong, sentence in sentences.items():
        with pytest.raises(ValueError, match=re.escape(sentence.format(**commits))):
            resolve(wrong)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match="is private: check the name; a private one needs"):
        resolve("hf://a/secret")
    assert not list((tmp_path / "home" / "hub").glob("models--*/snapshots"))


@pytest.mark.one_backend
def test_a_name_without_weights(hub, folder):
    recipe_only = (
        f"preset {NAME!r} has a recipe but no weights yet: make them with "
        "`mimzoo pretrain vit_nano_mae_fmnist_20ep --data … --workdir …`."
    )
    with pytest.raises(ValueError, match=re.escape(recipe_only) + "$"):
        resolve(NAME)
    hub.stop()
    with pytest.raises(ValueError, match="The Hub may have some: hf://"):
        resolve(NAME)
    # What came meanwhile is found.
    hub.start()
    hub.add(f"mimzoo/{NAME}", folder)
    assert resolve(NAME)


@pytest.mark.one_backend
def test_no_space_and_no_cache(hub, folder, tmp_path, monkeypatch):
    hub.add("a/b", folder, tag="v1")
    home = tmp_path / "home" / "hub"
    usage = type("usage", (), {"free": 1000})
    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match="make room") as caught:
            resolve("hf://a/b@v1")
    size = cache.readable(sum(p.stat().st_size for p in folder.iterdir()))
    assert re.fullmatch(
        rf"hf://a/b@\w+ needs {size}, and {home} has 1.0 kB free: make room, or put "
        "the cache elsewhere with the environment variable HF_HOME.",
        str(caught.value),
    )
    assert not home.exists()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "snapshot_download", full)
        with pytest.raises(OSError, match=r"the disk is full: .* does not fit into .*HF_HOME"):
            resolve("hf://a/b@v1")
    sound(tmp_path / "home")
    home.parent.mkdir(exist_ok=True)
    home.write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot be written \(.*\): put the cache elsewhere"):
        resolve("hf://a/b@v1")
    home.unlink()
    assert resolve("hf://a/b@v1")


@pytest.mark.one_backend
def test_a_manifest_that_disagrees(hub, folder, tmp_path):
    for name, files, said in (
        ("differs", {"curve.csv": "epoch,loss\n1,0.9\n"}, "curve.csv in .* has sha256"),
        ("longer", {"curve.csv": "epoch,loss\n1,0.95\n"}, "curve.csv in .* has 18 bytes, its"),
        ("lacks", {"task.json": None}, "lacks task.json, which its manifest.json lists"),
        ("broken", {"manifest.json": "[]"}, "manifest.json is no manifest of a preset"),
    ):
        given = {p.name: p for p in folder.iterdir()} | files
        hub.add(f"a/{name}", {k: v for k, v in given.items() if v is not None})
        with pytest.raises(ValueError, match=said):
            resolve(f"hf://a/{name}")
        sound(tmp_path / "home")


@pytest.mark.one_backend
def test_two_at_once_download_once(hub, folder, tmp_path):
    hub.add("a/b", folder)
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(resolve, ["hf://a/b"] * 2))
    assert paths[0] == paths[1]
    assert hub.count("GET /_cdn/") == 2  # two large files
    sound(tmp_path / "home")


CLIENT = """
from mimzoo.hub import resolve
print(resolve("hf://a/b@v1"))
"""
WITHOUT_KERAS = {"MIMZOO_REGISTER": "0"}


@pytest.mark.one_backend
def test_a_killed_download_leaves_nothing_wrong(hub, folder, tmp_path):
    hub.add("a/b", folder, tag="v1")
    fault = hub.fail("GET /_cdn/", hang_after=2000)
    client = subprocess.Popen([sys.executable, "-c", CLIENT], env=os.environ | WITHOUT_KERAS)
    try:
        hub.wait_for("GET /_cdn/")
    finally:
        client.kill()
        client.wait()
    hub.faults.remove(fault)
    path = resolve("hf://a/b@v1")
    assert (path / "model.weights.h5").read_bytes() == (folder / "model.weights.h5").read_bytes()
    sound(tmp_path / "home")
