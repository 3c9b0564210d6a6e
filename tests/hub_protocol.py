"""What the routes of the tests' Hub share: requests, answers, errors, who may do what."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import Repository, Store


@dataclass
class Request:
    method: str
    path: str  # decoded but for what is quoted inside a part
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    base: str  # the address of the server

    @classmethod
    def of(cls, method: str, target: str, headers: Any, body: bytes) -> "Request":
        parts = urlsplit(target)
        headers = {k.lower(): v for k, v in headers.items()}
        base = f"http://{headers.get('host', '')}"
        return cls(method, parts.path, parse_qs(parts.query), headers, body, base)

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self) -> dict:
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    content: Any = None  # bytes as they are, else JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        return b"" if self.content is None else json.dumps(self.content).encode()


class Refused(Exception):
    """An answer that is an error, with the code by which the client knows its kind."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any):
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.response = Response({"error": message, **more}, status, headers)


ROUTES: list[tuple[str, re.Pattern, Callable]] = []


def route(method: str, pattern: str) -> Callable:
    """Registers an answer; {repo} and {name} are parts of a path, {rest} is all that follows."""
    for name, regex in {
        "repo": r"(?P<repo>[^/]+/[^/]+?)",
        "revision": r"(?P<revision>[^/]+)",
        "name": r"(?P<name>[^/]+)",
        "rest": r"(?P<rest>.*)",
    }.items():
        pattern = pattern.replace(f"{{{name}}}", regex)

    def register(answer: Callable) -> Callable:
        ROUTES.extend((m, re.compile(pattern + "$"), answer) for m in method.split())
        return answer

    return register


class Hub:
    """Answers requests from a store.

    Args:
        store: what it holds.
        token: the only one that it knows.
        user: its owner.
        organisations: where its owner may write, beside the own name.
        cdn: whether large files lie on another host, as they do on the real Hub.
    """

    def __init__(self, store: Store, token: str, user: str, organisations: list[str], cdn: bool):
        self.store, self.token, self.user = store, token, user
        self.organisations, self.cdn = organisations, cdn

    def answer(self, request: Request) -> Response:
        try:
            if request.token not in (None, self.token) and not request.path.startswith("/_cdn"):
                raise Refused(401, "Invalid credentials in Authorization header")
            for method, pattern, answer in ROUTES:
                found = pattern.match(request.path)
                if found and method == request.method.replace("HEAD", "GET"):
                    parts = {name: unquote(part or "") for name, part in found.groupdict().items()}
                    with self.store.lock:
                        return answer(self, request, **parts)
            raise Refused(404, f"no route {request.method} {request.path}")
        except Refused as refused:
            return refused.response

    # --- who may do what ---

    def check_writer(self, request: Request, namespace: str | None = None) -> None:
        if request.token is None:
            raise Refused(401, "Invalid username or password.")
        if namespace not in (None, self.user, *self.organisations):
            raise Refused(403, f"You don't have the rights to write in {namespace}")

    def repository(self, request: Request, name: str) -> Repository:
        found = self.store.repositories.get(name)
        if found is None or (found.private and request.token is None):
            # Without a token, the Hub does not tell a missing repository from a private one.
            if request.token is None:
                raise Refused(401, "Invalid username or password.")
            raise Refused(404, "Repository not found", "RepoNotFound")
        return found

    def commit(self, request: Request, name: str, revision: str) -> tuple[Repository, str]:
        repository = self.repository(request, name)
        commit = repository.resolve(revision or "main")
        if commit is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, commit
