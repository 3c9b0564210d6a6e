"""A Hub on loopback: what huggingface_hub's client needs to load and publish, and its failures.

`with HubServer() as hub` starts it; the fixture `hub` also points this process and those that it
starts at it. By hand: `python tests/hub_server.py --folder DIR --port 8900`, then the environment
variables that it prints.
"""

import argparse
import contextlib
import importlib
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Self

import hub_collections
import hub_routes
import pytest
from hub_http import Entry, Fault, Handler
from hub_protocol import Hub
from hub_store import Repository, Store, is_large

assert hub_collections  # its routes are registered by the import
assert hub_routes

TOKEN = "hf_test_token_of_nobody"


class HubServer:
    """The server, on a free port of loopback.

    Args:
        folder: where it keeps everything, so that another server goes on; default: in memory.
        port: default: a free one.
        organisations: where the owner of the token may write, beside "me".
        cdn: whether large files are served by another host, as on the real Hub.
    """

    def __init__(
        self,
        folder: Path | None = None,
        port: int = 0,
        organisations: tuple[str, ...] = ("mimzoo",),
        cdn: bool = True,
    ):
        self.store = Store(folder)
        self.hub = Hub(self.store, TOKEN, "me", list(organisations), cdn)
        self.port = port
        self.log: list[Entry] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens; after `stop` again on the same port."""
        self.released.clear()
        handler = type("BoundHandler", (Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """As if the machine were gone: connections that clients keep are closed, too."""
        self.released.set()
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what tests put in and look at ---

    def add(
        self,
        name: str,
        files: dict[str, bytes | str | Path] | Path,
        tag: str | None = None,
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Adds files to a repository, made if need be; gives the commit.

        Args:
            name: "org/name".
            files: path -> content or a file to copy, or a folder.
            tag: a name for the commit.
            branch: where it goes.
            private: only with the token.
            gated: only with the token, and listed for all.
        """
        if isinstance(files, Path):
            folder = files
            paths = (p for p in sorted(folder.rglob("*")) if p.is_file())
            files = {p.relative_to(folder).as_posix(): p for p in paths}
        with self.store.lock:
            repository = self.store.repositories.setdefault(name, Repository())
            repository.private, repository.gated = private, gated
            commit = repository.resolve(branch) or repository.resolve("main")
            there = dict(repository.commits[commit]["files"]) if commit else {}
            for path, content in files.items():
                data = content.read_bytes() if isinstance(content, Path) else content
                data = data.encode() if isinstance(data, str) else data
                if is_large(path, len(data)):
                    there[path] = self.store.large_file(self.store.add_blob(data, large=True))
                else:
                    there[path] = self.store.small_file(data)
            oid = repository.commit(branch, there, "added by a test")
            if tag:
                repository.tags[tag] = oid
            self.store.save()
        return oid

    def fail(self, pattern: str, **how: object) -> Fault:
        """From now on, requests that fit fail; see `Fault`."""
        self.faults.append(Fault(pattern, **how))
        return self.faults[-1]

    def requests(self, pattern: str = "") -> list[Entry]:
        """The logged requests whose "METHOD /path" fits a pattern, in order."""
        return [entry for entry in list(self.log) if re.search(pattern, entry.line)]

    def count(self, pattern: str = "") -> int:
        """How many requests fit; `count("PUT /_lfs/")` counts uploads of large files."""
        return len(self.requests(pattern))

    def wait_for(self, pattern: str, seconds: float = 20.0) -> None:
        """Waits until a request fits, even one that is not answered yet."""
        end = time.monotonic() + seconds
        while not self.count(pattern):
            if time.monotonic() > end:
                raise TimeoutError(f"no request {pattern}")
            time.sleep(0.02)

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Environment variables under which huggingface_hub talks to this server only."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            **({"HF_TOKEN": token} if token else {}),
        }


# --- pointing huggingface_hub at it -------------------------------------------------------------


def reread_environment() -> None:
    """Makes huggingface_hub look at its environment variables again, which it does on import."""
    import huggingface_hub
    from huggingface_hub import constants, hf_api

    importlib.reload(constants)
    hf_api.api.endpoint = constants.ENDPOINT
    huggingface_hub.close_session()


def use(hub: HubServer, patch: pytest.MonkeyPatch, home: Path, token: str | None = TOKEN) -> None:
    """Points this process, and those that it starts, at a server with an empty cache."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy"):
            patch.delenv(name)
    for name, value in hub.environment(home, token).items():
        patch.setenv(name, value)
    patch.setenv("MIMZOO_CACHE", str(home / "mimzoo"))
    reread_environment()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A server that this process talks to, with empty caches in `tmp_path / "home"`."""
    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        use(server, patch, tmp_path / "home")
        yield server
    reread_environment()


def main() -> None:
    """Runs a server until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="kept there; default: a temporary one")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="hub-"))
    try:
        with HubServer(folder, arguments.port) as server:
            for name, value in server.environment(folder / "home").items():
                print(f"export {name}={value}", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
