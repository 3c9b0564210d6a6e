"""A Hub on loopback for the tests, and its failures.

The fixture `hub` starts it and points this process, and those that it starts, at it.
"""

import contextlib
import importlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hub_routes import Answer, Hub, Repository, Request, error_headers

TOKEN = "hf_test_token_of_nobody"


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" fits a pattern.

    Args:
        pattern: searched for in "METHOD /path".
        times: how often; None: always.
        status: answered in place of the right one.
        code: the Hub's name of the error, such as "GatedRepo".
        message: of the error.
        retry_after: header of the error.
        stop_after: bytes of the body after which the connection is closed.
        hang_after: bytes of the body after which nothing more is sent.
        corrupt: whether a byte of the body is another.
    """

    pattern: str
    times: int | None = None
    status: int | None = None
    code: str | None = None
    message: str = "injected"
    retry_after: str | None = None
    stop_after: int | None = None
    hang_after: int | None = None
    corrupt: bool = False


@dataclass(frozen=True)
class Entry:
    """A line of the log: a request, and how many bytes of its answer's body were sent."""

    method: str
    path: str
    status: int
    sent: int
    authorized: bool

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    owner: Any  # the HubServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.owner.connections.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that was killed
            super().handle()

    def finish(self) -> None:
        self.owner.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr: tests look at what clients print."""

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(self.command, self.path, self.headers, self.rfile.read(length))
        fault = self.owner.fault(f"{request.method} {request.path}")
        if fault.status is not None:
            headers = error_headers(fault.message, fault.code)
            headers |= {"Retry-After": fault.retry_after} if fault.retry_after else {}
            answer = Answer({"error": fault.message}, fault.status, headers)
        else:
            answer = self.owner.hub.answer(request)
        data = answer.data
        if fault.corrupt and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        ends = [n for n in (fault.stop_after, fault.hang_after) if n is not None]
        body = b"" if self.command == "HEAD" else data[: min([*ends, len(data)])]
        authorized = request.token is not None
        self.owner.log.append(
            Entry(request.method, request.path, answer.status, len(body), authorized)
        )
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if len(body) < len(data) and self.command != "HEAD":
            if fault.hang_after is not None:
                self.owner.released.wait(60)
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = handle_any


class HubServer:
    """The server, on a free port of loopback; "me" may write in `organisations`."""

    def __init__(self, organisations: tuple[str, ...] = ("mimzoo",)):
        self.hub = Hub(TOKEN, "me", list(organisations))
        self.repositories, self.collections = self.hub.repositories, self.hub.collections
        self.port = 0
        self.log: list[Entry] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self.connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
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

    def __enter__(self) -> "HubServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment variables of a process that knows this server only, with empty caches."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1,localhost",
            "MIMZOO_CACHE": str(home / "mimzoo"),
        }

    def add(
        self,
        name: str,
        files: dict[str, bytes | str | Path] | Path,
        tag: str | None = None,
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Adds files, or a folder of them, to a repository, made if need be; gives the commit."""
        if isinstance(files, Path):
            folder = files
            paths = (p for p in sorted(folder.rglob("*")) if p.is_file())
            files = {p.relative_to(folder).as_posix(): p for p in paths}
        with self.hub.lock:
            repository = self.repositories.setdefault(name, Repository())
            repository.private, repository.gated = private, gated
            there = dict(repository.files())
            for path, content in files.items():
                data = content.read_bytes() if isinstance(content, Path) else content
                there[path] = data.encode() if isinstance(data, str) else data
            oid = repository.commit("main", there)
            if tag:
                repository.tags[tag] = oid
        return oid

    def fail(self, pattern: str, **how: Any) -> Fault:
        """From now on, requests that fit fail; see `Fault`."""
        self.faults.append(Fault(pattern, **how))
        return self.faults[-1]

    def fault(self, line: str) -> Fault:
        for fault in self.faults:
            if fault.times != 0 and re.search(fault.pattern, line):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return Fault("")

    def requests(self, pattern: str = "") -> list[Entry]:
        """The logged requests whose "METHOD /path" fits a pattern, in order."""
        return [entry for entry in list(self.log) if re.search(pattern, entry.line)]

    def count(self, pattern: str = "") -> int:
        return len(self.requests(pattern))

    def wait_for(self, pattern: str, seconds: float = 20.0) -> None:
        """Waits until a request fits, even one that is not answered yet."""
        end = time.monotonic() + seconds
        while not self.count(pattern):
            if time.monotonic() > end:
                raise TimeoutError(f"no request {pattern}")
            time.sleep(0.02)


def reread_environment() -> None:
    """Makes huggingface_hub look at its environment variables again, which it does on import."""
    import huggingface_hub
    from huggingface_hub import constants, hf_api

    importlib.reload(constants)
    hf_api.api.endpoint = constants.ENDPOINT
    huggingface_hub.close_session()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A server that this process talks to, with empty caches in `tmp_path / "home"`."""
    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        for name, value in server.environment(tmp_path / "home").items():
            patch.setenv(name, value)
        reread_environment()
        yield server
    reread_environment()
