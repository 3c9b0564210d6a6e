"""Faults of the Hub, of two publishers and of what must never be published or asked for."""

import json
import os
import shutil
import socket
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import keras_hub
import pytest
from mimzoo_training.cli import main
from mimzoo_training.publish.remote import Remote
from test_convert_layouts import mae, randomized

from mimzoo import preset_info
from mimzoo.hub import errors, forget, resolve
from mimzoo.hub.contents import Contents
from mimzoo.hub.errors import with_retries
from mimzoo.pretraining import MAE
from mimzoo.pretraining.teachers import find_normalization, find_teacher

pytestmark = pytest.mark.one_backend
NANO = "vit_nano_mae_fmnist_20ep"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    randomized(mae()).save_to_preset(str(folder))
    return folder


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that were waited for, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(errors.time, "sleep", waited.append)
    forget()
    return waited


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder of one's own, with files that are nobody's business."""
    folder = tmp_path / "mine"
    randomized(mae().backbone).save_to_preset(str(folder))
    for name in ("secret.csv", ".env.json", "notes.md", "private.png", "other.weights.h5"):
        (folder / name).write_text("secret")
    return folder


def publish(*arguments: object) -> int:
    more = ("--org", "mimzoo", "--allow-licence", "unknown")
    return main(["publish", *map(str, arguments), *more])


# --- publishing ----------------------------------------------------------------------------------


def test_only_known_files_are_published(hub, mine, capsys):
    """D2: every .json, .csv, .md and .png was."""
    assert publish(mine) == 0
    files = hub.repositories["mimzoo/mine"].files()
    known = {"config.json", "metadata.json", "model.weights.h5", "README.md", "manifest.json"}
    assert set(files) == known
    out = capsys.readouterr().out
    assert "not published: .env.json, notes.md, other.weights.h5, private.png, secret.csv" in out
    assert not any(b"secret" in data for data in files.values())


def test_links_out_of_the_folder_are_refused(hub, mine, tmp_path, capsys):
    (tmp_path / "passwd").write_text("secret")
    (mine / "results.json").symlink_to(tmp_path / "passwd")
    assert publish(mine) == 1
    assert "results.json in" in (printed := capsys.readouterr().err)
    assert "outside of the folder" in printed
    assert not hub.count("POST")


def test_a_dry_run_needs_no_network(mine, monkeypatch, capsys):
    """E11: it failed."""
    monkeypatch.setattr(socket.socket, "connect", None)  # asks nobody
    assert publish(mine, "--dry-run") == 0
    out = capsys.readouterr()
    assert "a dry run only: " in out.err
    assert "would be published" in out.out
    assert "model.weights.h5" in out.out
    assert "--- README.md of mine ---" in out.out
    assert "## Where the weights come from" in out.out


def test_the_second_publisher_of_a_name_gets_an_error(hub, folder, tmp_path):
    """D5: both said "published", and one was lost."""
    first, second = Remote("mimzoo"), Remote("mimzoo")
    states = [remote.state("new", tmp_path) for remote in (first, second)]
    assert states == [None, None]
    first.upload("new", folder, None)
    with pytest.raises(ValueError, match="somebody else has written to mimzoo/new meanwhile"):
        second.upload("new", folder, None)
    # The same where both have made the empty repository, and of a later version.
    hub.add("mimzoo/other", {})
    both = [remote.state("other", tmp_path) for remote in (first, second)]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text("{}")
    first.upload("other", tmp_path / "theirs", both[0])
    with pytest.raises(ValueError, match="nothing was uploaded"):
        second.upload("other", folder, both[1])
    assert len(hub.repositories["mimzoo/other"].commits) == 3


# --- a Hub that fails for now --------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
def test_listings_are_asked_for_again(status, hub, folder, waits):
    """D6: the first 500 was the end."""
    hub.add("a/b", folder)
    hub.fail("GET /api/models/a/b$", status=status, times=2, retry_after="7")
    assert resolve("hf://a/b")
    assert waits == [7.0, 7.0]
    assert Remote("me").check_writable() is None
    hub.fail("GET /api/whoami-v2", status=status, times=1)
    Remote("me").check_writable()
    assert waits[2:] == [1.0]


def test_retries_are_bounded(hub, folder, waits):
    hub.add("a/b", folder)
    fault = hub.fail("GET /api/models/a/b$", status=500)
    with pytest.raises(ValueError, match=r"it answers 500\. Try again later"):
        resolve("hf://a/b")
    assert waits == [1.0, 2.0, 4.0]
    fault.retry_after = "3600"
    with pytest.raises(ValueError, match=r"it answers 500\. Try again later"):
        resolve("hf://a/b")
    assert len(waits) == 3
    fault.retry_after, fault.times = formatdate(errors.time.time() + 20, usegmt=True), 1
    assert resolve("hf://a/b")
    assert 15 < waits[3] <= 20


def test_other_errors_are_not_asked_for_again(waits):
    def refused() -> None:
        response = SimpleNamespace(status_code=404, headers={}, request=None)
        raise huggingface_hub.errors.HfHubHTTPError("no", response=response)

    with pytest.raises(huggingface_hub.errors.HfHubHTTPError):
        with_retries(refused)
    assert not waits


# --- a branch that moves -------------------------------------------------------------------------


def test_a_run_reads_one_commit(hub, folder, tmp_path):
    """D7: weights, recipe and licence could be of different commits."""
    forget()
    hub.add("a/b", folder)
    first = resolve("hf://a/b@main")
    hub.add("a/b", {"recipe.json": json.dumps({"recipe": {"name": "moved"}})})
    assert MAE.from_preset("hf://a/b@main").backbone
    assert resolve("hf://a/b@main") == first
    assert Contents.read(resolve("hf://a/b@main")).recipe == {}
    assert hub.count("GET /api/models/a/b/revision/main") == 1
    forget()
    assert resolve("hf://a/b@main") != first


# --- teachers ------------------------------------------------------------------------------------


KAGGLE = (
    "kaggle://keras/vit/keras/vit_base_patch16_224_imagenet",
    next(iter(keras_hub.models.ViTBackbone.presets)),
)


@pytest.mark.parametrize("name", [*KAGGLE, "hf://google/vit", "hf://google/vit@main"])
def test_offline_means_offline(name, monkeypatch, capsys):
    """D4: a host was asked."""
    asked: list = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: asked.append(a))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"the teacher .* cannot be loaded"):
        find_teacher(name)
    assert find_normalization(name) is None
    assert not asked
    # Named before anything is fetched.
    assert f"loading the teacher {name} from" in capsys.readouterr().err


def test_a_task_that_names_a_teacher_elsewhere(tmp_path, monkeypatch):
    name = "vit_nano_mae-features_fmnist_5ep"
    shutil.copytree(preset_info(name).folder, tmp_path / "preset")
    path = tmp_path / "preset" / "task.json"
    (tmp_path / "preset" / "manifest.json").unlink(missing_ok=True)
    path.write_text(path.read_text().replace(NANO, KAGGLE[0]))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ValueError, match="is on Kaggle, and HF_HUB_OFFLINE forbids"):
        MAE.from_preset(tmp_path / "preset")
