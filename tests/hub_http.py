"""The HTTP side of the tests' Hub: answers, the log, and what is made to go wrong."""

import contextlib
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from hub_protocol import Request, Response


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" fits a pattern.

    Args:
        pattern: searched for in "METHOD /path".
        times: how often; None: always.
        status: answered in place of the right one.
        code: the Hub's name of the error, such as "GatedRepo".
        message: of the error.
        stop_after: bytes of the body after which the connection is closed.
        hang_after: bytes of the body after which nothing more comes.
        corrupt: whether a byte of the body is another.
    """

    pattern: str
    times: int | None = None
    status: int | None = None
    code: str | None = None
    message: str = "injected"
    stop_after: int | None = None
    hang_after: int | None = None
    corrupt: bool = False


@dataclass(frozen=True)
class Entry:
    """A line of the log: a request, and how many bytes of its answer's body went out."""

    method: str
    path: str
    status: int
    sent: int
    range: str | None
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
        request = Request.of(self.command, self.path, self.headers, self._body())
        line = f"{request.method} {request.path}"
        fault = self._fault(line)
        if fault is not None and fault.status is not None:
            headers = {"X-Error-Message": fault.message}
            headers |= {"X-Error-Code": fault.code} if fault.code else {}
            response = Response({"error": fault.message}, fault.status, headers)
        else:
            response = self.owner.hub.answer(request)
        data = response.data
        if fault is not None and fault.corrupt and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        body = b"" if self.command == "HEAD" else data
        if fault is not None:
            body = body[: _least(fault.stop_after, fault.hang_after, len(body))]
        authorized = request.token is not None
        wanted = request.headers.get("range")
        entry = Entry(request.method, request.path, response.status, len(body), wanted, authorized)
        self.owner.log.append(entry)
        try:
            self._send(response, len(data), body)
        except ConnectionError:
            self.close_connection = True
        if len(body) < len(data) and self.command != "HEAD":
            if fault is not None and fault.hang_after is not None:
                self.owner.released.wait(60)
            self.close_connection = True

    def _send(self, response: Response, length: int, body: bytes) -> None:
        self.send_response(response.status)
        for name, value in {"Content-Type": "application/json", **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _fault(self, line: str) -> Fault | None:
        for fault in self.owner.faults:
            if fault.times != 0 and re.search(fault.pattern, line):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any


def _least(*values: int | None) -> int:
    return min(value for value in values if value is not None)
