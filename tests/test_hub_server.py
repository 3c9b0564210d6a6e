"""The Hub of the tests: huggingface_hub's clients, of two majors, find what they look for."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import TOKEN, HubServer, reread_environment, use
from huggingface_hub import errors, hf_hub_download, snapshot_download

pytestmark = pytest.mark.one_backend

CHECK = Path(__file__).parent / "hub_client_check.py"
# Where `make test` puts the client of the major before.
BEFORE = Path(sys.prefix) / "huggingface_hub_1"


@pytest.mark.parametrize("client", ["installed", "major before"])
def test_clients(client, tmp_path):
    if client == "major before" and not BEFORE.is_dir():
        pytest.skip("`make test` installs it")
    path = [str(BEFORE)] if client == "major before" else []
    with HubServer(tmp_path / "kept") as server:
        environment = os.environ | server.environment(tmp_path / "home")
        root = Path(__file__).parent.parent
        environment["PYTHONPATH"] = os.pathsep.join(map(str, [*path, root, root / "training"]))
        environment["MIMZOO_CACHE"] = str(tmp_path / "mimzoo")
        done = subprocess.run(
            [sys.executable, CHECK], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        version = huggingface_hub.__version__ if client == "installed" else "1."
        assert done.stdout.startswith(f"huggingface_hub {version}")
        assert server.count("PUT /_lfs/") == 1
        # The token stays with the Hub.
        assert not any(entry.authorized for entry in server.requests("GET /_cdn/"))
    # Another server goes on with the folder.
    with HubServer(tmp_path / "kept") as server:
        assert len(server.store.repositories) == 5
        assert "v1" in server.store.repositories["mimzoo/tiny"].tags


def test_this_process_talks_to_it_and_the_cache_is_its_own(hub, tmp_path):
    commit = hub.add("a/b", {"config.json": "{}", "sub/x.txt": "x"}, tag="v1")
    path = Path(snapshot_download("a/b", revision="v1"))
    assert path.name == commit
    assert path.is_relative_to(tmp_path / "home")
    assert huggingface_hub.whoami()["name"] == "me"
    assert all(entry.authorized for entry in hub.log)


def test_who_may_read(hub, monkeypatch):
    hub.add("a/private", {"x.json": "{}"}, private=True)
    hub.add("a/gated", {"x.json": "{}"}, gated=True)
    assert hf_hub_download("a/private", "x.json")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(errors.HfHubHTTPError, match="401"):
        huggingface_hub.model_info("a/private")
    monkeypatch.delenv("HF_TOKEN")
    # What the Hub says to strangers of a repository that is private, and of one that is not.
    for name in ("a/private", "a/none"):
        with pytest.raises(errors.HfHubHTTPError, match="Invalid username or password"):
            huggingface_hub.model_info(name)
    assert huggingface_hub.model_info("a/gated").gated == "auto"
    with pytest.raises(errors.GatedRepoError):
        hf_hub_download("a/gated", "x.json")


def test_failures(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    data = os.urandom(50_000)
    hub.add("a/b", {"w.safetensors": data, "x.json": "{}"})
    fault = hub.fail("GET /_cdn/", stop_after=20_000, times=1)
    assert Path(hf_hub_download("a/b", "w.safetensors")).read_bytes() == data
    assert fault.times == 0
    sent = [(entry.range, entry.sent) for entry in hub.requests("GET /_cdn/")]
    assert sent == [(None, 20_000), ("bytes=20000-", 30_000)]
    hub.fail("/api/models/a/b", status=500, times=1)
    with pytest.raises(errors.HfHubHTTPError, match="500"):
        huggingface_hub.model_info("a/b")
    hub.fail("/api/models/a/b", status=403, code="GatedRepo", times=1)
    with pytest.raises(errors.GatedRepoError):
        huggingface_hub.model_info("a/b")
    hub.fail("GET /a/b/resolve", corrupt=True, times=1)
    assert Path(hf_hub_download("a/b", "x.json")).read_text() != "{}"
    hub.fail("/api/models/a/b", hang_after=0, times=1)
    with pytest.raises(Exception, match="timed out"):
        huggingface_hub.HfApi().model_info("a/b", timeout=0.2)


def test_gone_and_back(hub):
    hub.add("a/b", {"x.json": "{}"})
    huggingface_hub.model_info("a/b")
    hub.stop()
    with pytest.raises(Exception, match="refused"):
        huggingface_hub.model_info("a/b")
    hub.start()
    assert huggingface_hub.model_info("a/b").id == "a/b"


def test_nothing_of_it_stays(tmp_path):
    before = (huggingface_hub.constants.ENDPOINT, os.environ.get("HF_TOKEN"))
    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        use(server, patch, tmp_path)
        assert server.url == huggingface_hub.constants.ENDPOINT
        assert os.environ["HF_TOKEN"] == TOKEN

    reread_environment()
    assert (huggingface_hub.constants.ENDPOINT, os.environ.get("HF_TOKEN")) == before
    assert huggingface_hub.constants.HF_HUB_OFFLINE
