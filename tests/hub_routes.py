"""What the tests' Hub answers: the part of its API that mimzoo calls through huggingface_hub."""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".h5", ".safetensors", ".bin", ".pth", ".pt")


class Refused(Exception):
    """An answer that is an error, with the code by which the client knows its kind."""

    def __init__(self, status: int, message: str, code: str = ""):
        self.answer = Answer({"error": message}, status, error_headers(message, code))


def error_headers(message: str, code: str | None) -> dict[str, str]:
    return {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


@dataclass
class Answer:
    content: Any = None  # bytes as they are, else JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return (
            self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()
        )


class Request:
    def __init__(self, method: str, target: str, headers: Any, body: bytes):
        parts = urlsplit(target)
        self.method, self.path, self.query = method, parts.path, parse_qs(parts.query)
        self.headers = {k.lower(): v for k, v in headers.items()}
        self.body, self.base = body, f"http://{self.headers.get('host', '')}"
        self.token = self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self) -> dict:
        return json.loads(self.body or b"{}")


class File(bytes):
    """The content of a file, with what the Hub lists of it."""

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self) + self).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self).hexdigest()

    def lfs(self, path: str, digest: str) -> dict:
        """The entry of a file that is stored outside of git, else nothing."""
        if not path.endswith(LARGE):
            return {}
        return {"lfs": {digest: self.sha256, "size": len(self), "pointerSize": 134}}


class Repository:
    """Commits, each with all its files, and the branches and tags that point at them."""

    def __init__(self, private: bool = False, gated: bool = False):
        self.private, self.gated = private, gated
        self.commits: dict[str, dict[str, File]] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((time.time_ns(), sorted(files))).encode()).hexdigest()
        self.commits[oid] = {path: File(data) for path, data in files.items()}
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str:
        known = self.branches | self.tags | {oid: oid for oid in self.commits}
        if revision not in known:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return known[revision]

    def files(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.resolve(revision)]


class Hub:
    """Repositories and collections, and who may do what with them."""

    def __init__(self, token: str, user: str, organisations: list[str]):
        self.token, self.user, self.organisations = token, user, organisations
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        self.collections: dict[str, dict] = {}
        self.blobs: dict[str, bytes] = {}

    def answer(self, request: Request) -> Answer:
        try:
            if request.token not in (None, self.token) and not request.path.startswith("/_cdn"):
                raise Refused(401, "Invalid credentials in Authorization header")
            for method, pattern, route in ROUTES:
                found = pattern.fullmatch(request.path)
                if found and method == request.method.replace("HEAD", "GET"):
                    with self.lock:
                        return route(self, request, *(unquote(x or "") for x in found.groups()))
            raise Refused(404, f"no route {request.method} {request.path}")
        except Refused as refused:
            return refused.answer

    def check_writer(self, request: Request, namespace: str | None = None) -> None:
        if request.token is None:
            raise Refused(401, "Invalid username or password.")
        if namespace not in (None, self.user, *self.organisations):
            raise Refused(403, f"You don't have the rights to write in {namespace}")

    def repository(self, request: Request, name: str) -> Repository:
        found = self.repositories.get(name)
        if found is None or (found.private and request.token is None):
            if request.token is None:  # strangers do not learn which of the two it is
                raise Refused(401, "Invalid username or password.")
            raise Refused(404, "Repository not found", "RepoNotFound")
        return found


ROUTES: list[tuple[str, re.Pattern, Callable]] = []
REPO, PART = "([^/]+/[^/]+?)", "([^/]+)"


def route(method: str, pattern: str) -> Callable:
    def register(answer: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern), answer))
        return answer

    return register


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request) -> Answer:
    hub.check_writer(request)
    orgs = [{"type": "org", "name": name} for name in hub.organisations]
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    return Answer({"type": "user", "name": hub.user, "orgs": orgs, "auth": access})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Request) -> Answer:
    """Refuses what the Hub refuses in the front matter of a card, as far as we need it."""
    import yaml

    metadata = yaml.safe_load(request.json()["content"].split("---\n")[1])
    if not isinstance(metadata.get("license", ""), str):
        return Answer({"errors": [{"message": '"license" must be a string'}], "warnings": []}, 400)
    return Answer({"errors": [], "warnings": []})


# --- repositories -------------------------------------------------------------------------------


@route("POST", "/api/repos/create")
def create_repository(hub: Hub, request: Request) -> Answer:
    wanted = request.json()
    name = f"{wanted.get('organization') or hub.user}/{wanted['name']}"
    hub.check_writer(request, name.split("/")[0])
    if name in hub.repositories:
        refused = Refused(409, "You already created this model repo")
        refused.answer.content["url"] = f"{request.base}/{name}"
        raise refused
    hub.repositories[name] = Repository()
    return Answer({"url": f"{request.base}/{name}", "name": name, "id": name})


@route("GET", f"/api/models/{REPO}/refs")
def refs(hub: Hub, request: Request, repo: str) -> Answer:
    found = hub.repository(request, repo)

    def listed(kind: str, named: dict) -> list:
        return [{"name": k, "ref": f"refs/{kind}/{k}", "targetCommit": v} for k, v in named.items()]

    branches, tags = listed("heads", found.branches), listed("tags", found.tags)
    return Answer({"converts": [], "branches": branches, "tags": tags})


@route("POST", f"/api/models/{REPO}/tag/{PART}")
def add_tag(hub: Hub, request: Request, repo: str, revision: str) -> Answer:
    hub.check_writer(request, repo.split("/")[0])
    found, tag = hub.repository(request, repo), request.json()["tag"]
    if tag in found.tags:
        raise Refused(409, "Reference already exists")
    found.tags[tag] = found.resolve(revision)
    return Answer({})


@route("GET", f"/api/models/{REPO}(?:/revision/{PART})?")
def model_info(hub: Hub, request: Request, repo: str, revision: str) -> Answer:
    found = hub.repository(request, repo)
    commit = found.resolve(revision or "main")
    siblings = [
        {"rfilename": path, "size": len(file), "blobId": file.oid} | file.lfs(path, "sha256")
        for path, file in sorted(found.commits[commit].items())
    ]
    known = {"id": repo, "modelId": repo, "sha": commit, "private": found.private, "tags": []}
    known |= {"downloads": 0, "likes": 0, "gated": "auto" if found.gated else False}
    return Answer({**known, "siblings": siblings})


@route("GET", f"/api/models/{REPO}/tree/{PART}")
def tree(hub: Hub, request: Request, repo: str, revision: str) -> Answer:
    files = hub.repository(request, repo).files(revision)
    return Answer(
        [
            {"type": "file", "path": path, "size": len(file), "oid": file.oid}
            | file.lfs(path, "oid")
            for path, file in sorted(files.items())
        ]
    )


# --- files up -----------------------------------------------------------------------------------


@route("POST", f"/api/models/{REPO}/preupload/{PART}")
def preupload(hub: Hub, request: Request, repo: str, revision: str) -> Answer:
    hub.check_writer(request, repo.split("/")[0])
    there = hub.repository(request, repo).files(revision)
    files = []
    for wanted in request.json()["files"]:
        path, known = wanted["path"], there.get(wanted["path"])
        mode = "lfs" if path.endswith(LARGE) else "regular"
        oid = known and (known.sha256 if mode == "lfs" else known.oid)
        files.append({"path": path, "shouldIgnore": False, "uploadMode": mode, "oid": oid})
    return Answer({"files": files})


@route("POST", rf"/{REPO}\.git/info/lfs/objects/batch")
def large_batch(hub: Hub, request: Request, repo: str) -> Answer:
    hub.check_writer(request, repo.split("/")[0])
    objects = []
    for wanted in request.json()["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        if wanted["oid"] not in hub.blobs:
            entry["actions"] = {"upload": {"href": f"{request.base}/_lfs/{wanted['oid']}"}}
        objects.append(entry)
    return Answer({"transfer": "basic", "objects": objects})


@route("PUT", f"/_lfs/{PART}")
def large_upload(hub: Hub, request: Request, name: str) -> Answer:
    if File(request.body).sha256 != name:
        raise Refused(400, "sha256 mismatch")
    hub.blobs[name] = request.body
    return Answer({})


@route("POST", f"/api/models/{REPO}/commit/{PART}")
def commit(hub: Hub, request: Request, repo: str, revision: str) -> Answer:
    hub.check_writer(request, repo.split("/")[0])
    found = hub.repository(request, repo)
    files = dict(found.files(revision))
    for line in request.body.splitlines():
        kind, value = (json.loads(line)[key] for key in ("key", "value"))
        if kind == "header" and value.get("parentCommit") not in (None, found.resolve(revision)):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        if kind == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]))
        elif kind == "lfsFile":
            files[value["path"]] = File(hub.blobs[value["oid"]])
        elif kind == "deletedFile":
            del files[value["path"]]
    oid = found.commit(revision, files)
    url = f"{request.base}/{repo}/commit/{oid}"
    return Answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


# --- files down ---------------------------------------------------------------------------------


@route("GET", f"/{REPO}/resolve/{PART}/(.*)")
def resolve(hub: Hub, request: Request, repo: str, revision: str, path: str) -> Answer:
    found = hub.repository(request, repo)
    headers = {"X-Repo-Commit": found.resolve(revision)}
    if found.gated and request.token is None:
        raise Refused(401, "Access to this model is restricted: log in.", "GatedRepo")
    if path not in found.files(revision):
        raise Refused(404, "Entry not found", "EntryNotFound")
    file = found.files(revision)[path]
    if not path.endswith(LARGE):
        return Answer(bytes(file), 200, headers | {"ETag": f'"{file.oid}"'})
    hub.blobs[file.sha256] = bytes(file)
    # Another host than 127.0.0.1, so that a client that sends it the token shows.
    other = request.base.replace("127.0.0.1", "localhost")
    headers |= {"ETag": f'"{file.sha256}"', "X-Linked-Etag": f'"{file.sha256}"'}
    headers |= {"X-Linked-Size": str(len(file)), "Location": f"{other}/_cdn/{file.sha256}"}
    return Answer(b"", 302, headers)


@route("GET", f"/_cdn/{PART}")
def cdn(hub: Hub, request: Request, name: str) -> Answer:
    if request.token is not None:
        raise Refused(400, "Only one auth mechanism allowed")
    headers = {"ETag": f'"{name}"', "Content-Type": "application/octet-stream"}
    if start := re.match(r"bytes=(\d+)-", request.headers.get("range", "")):
        data, first = hub.blobs[name], int(start[1])
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        return Answer(data[first:], 206, headers)
    return Answer(hub.blobs[name], 200, headers)


# --- collections --------------------------------------------------------------------------------


@route("GET", "/api/collections")
def list_collections(hub: Hub, request: Request) -> Answer:
    return Answer([{**c, "items": c["items"][:4]} for c in hub.collections.values()])


@route("POST", "/api/collections")
def create_collection(hub: Hub, request: Request) -> Answer:
    wanted = request.json()
    hub.check_writer(request, wanted["namespace"])
    slug = f"{wanted['namespace']}/collection-{len(hub.collections):024x}"
    hub.collections[slug] = {
        "slug": slug,
        "title": wanted["title"],
        "description": wanted.get("description"),
        "owner": {"name": wanted["namespace"]},
        "items": [],
        "lastUpdated": "2026-01-01T00:00:00.000Z",
        "private": False,
        "theme": "green",
        "upvotes": 0,
    }
    return Answer({**hub.collections[slug], "position": 0})


@route("GET", f"/api/collections/{REPO}")
def get_collection(hub: Hub, request: Request, slug: str) -> Answer:
    return Answer({**hub.collections[slug], "position": 0})


@route("POST", f"/api/collections/{REPO}/items")
def add_item(hub: Hub, request: Request, slug: str) -> Answer:
    hub.check_writer(request, slug.split("/")[0])
    item, items = request.json()["item"], hub.collections[slug]["items"]
    hub.repository(request, item["id"])
    items.append({"_id": f"{len(items):024x}", **item, "position": len(items)})
    return Answer({**hub.collections[slug], "position": 0})
