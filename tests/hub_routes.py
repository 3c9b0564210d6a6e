"""The routes of the tests' Hub about repositories, as huggingface_hub's client calls them."""

import base64
import hashlib
import json
import re
from urllib.parse import parse_qs

from hub_protocol import Hub, Refused, Request, Response, route
from hub_store import Repository, is_large


def described(path: str, file: dict) -> dict:
    """A file as the listings tell it."""
    entry = {"type": "file", "path": path, "size": file["size"], "oid": file["oid"]}
    if file["lfs"]:
        entry["lfs"] = {"oid": file["lfs"], "size": file["size"], "pointerSize": 134}
    return entry


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request) -> Response:
    hub.check_writer(request)
    organisations = [{"type": "org", "name": name} for name in hub.organisations]
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    return Response({"type": "user", "name": hub.user, "orgs": organisations, "auth": access})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Request) -> Response:
    """Refuses what the Hub refuses in the front matter of a model card, as far as we need it."""
    import yaml

    found = re.match(r"---\n(.*?\n)---", request.json()["content"], re.DOTALL)
    if not found:
        return Response({"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]})
    try:
        metadata = yaml.safe_load(found[1])
        wrong = None if isinstance(metadata, dict) else "the metadata is no mapping"
        if not wrong and not isinstance(metadata.get("license", ""), str | list):
            wrong = '"license" must be a string'
    except yaml.YAMLError as error:
        wrong = str(error).splitlines()[0]
    if wrong:
        return Response({"errors": [{"message": wrong}], "warnings": []}, 400)
    return Response({"errors": [], "warnings": []})


# --- repositories -------------------------------------------------------------------------------


@route("POST", "/api/repos/create")
def create_repository(hub: Hub, request: Request) -> Response:
    wanted = request.json()
    namespace = wanted.get("organization") or hub.user
    hub.check_writer(request, namespace)
    name = f"{namespace}/{wanted['name']}"
    url = f"{request.base}/{name}"
    if name in hub.store.repositories:
        raise Refused(409, "You already created this model repo", url=url)
    private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    repository = hub.store.repositories[name] = Repository(private)
    repository.commit("main", {}, "initial commit")
    hub.store.save()
    return Response({"url": url, "name": name, "id": name})


@route("DELETE", "/api/repos/delete")
def delete_repository(hub: Hub, request: Request) -> Response:
    wanted = request.json()
    namespace = wanted.get("organization") or hub.user
    hub.check_writer(request, namespace)
    if hub.store.repositories.pop(f"{namespace}/{wanted['name']}", None) is None:
        raise Refused(404, "Repository not found", "RepoNotFound")
    hub.store.save()
    return Response({})


@route("GET", "/api/models")
def list_models(hub: Hub, request: Request) -> Response:
    author = request.query.get("author", [""])[0]
    names = sorted(n for n in hub.store.repositories if n.startswith(f"{author}/") or not author)
    return Response([{"id": n, "modelId": n, "private": False, "tags": []} for n in names])


@route("GET", "/api/models/{repo}/refs")
def refs(hub: Hub, request: Request, repo: str) -> Response:
    found = hub.repository(request, repo)

    def told(kind: str, named: dict) -> list:
        return [{"name": k, "ref": f"refs/{kind}/{k}", "targetCommit": v} for k, v in named.items()]

    branches, tags = told("heads", found.branches), told("tags", found.tags)
    return Response({"converts": [], "branches": branches, "tags": tags})


@route("POST DELETE", "/api/models/{repo}/(?P<kind>branch|tag)/{revision}")
def change_ref(hub: Hub, request: Request, repo: str, kind: str, revision: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    found = hub.repository(request, repo)
    named = found.branches if kind == "branch" else found.tags
    if request.method == "DELETE":
        if named.pop(revision, None) is None:
            raise Refused(404, "no such reference", "RevisionNotFound")
    else:
        wanted = request.json()
        if kind == "branch":
            new, at = revision, wanted.get("startingPoint") or "main"
        else:
            new, at = wanted["tag"], revision
        if new in named:
            raise Refused(409, "Reference already exists")
        named[new] = hub.commit(request, repo, at)[1]
    hub.store.save()
    return Response({})


@route("GET", "/api/models/{repo}(?:/revision/{revision})?")
def model_info(hub: Hub, request: Request, repo: str, revision: str) -> Response:
    found, commit = hub.commit(request, repo, revision)
    siblings = []
    for path, file in sorted(found.commits[commit]["files"].items()):
        sibling = {"rfilename": path}
        if "blobs" in request.query:
            sibling |= {"size": file["size"], "blobId": file["oid"]}
            if file["lfs"]:
                sibling["lfs"] = {"sha256": file["lfs"], "size": file["size"], "pointerSize": 134}
        siblings.append(sibling)
    date = found.commits[commit]["date"]
    return Response(
        {
            "id": repo,
            "modelId": repo,
            "author": repo.split("/")[0],
            "sha": commit,
            "private": found.private,
            "gated": "auto" if found.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "lastModified": date,
            "createdAt": date,
            "siblings": siblings,
        }
    )


@route("GET", "/api/models/{repo}/tree/{revision}(?:/{rest})?")
def tree(hub: Hub, request: Request, repo: str, revision: str, rest: str) -> Response:
    found, commit = hub.commit(request, repo, revision)
    prefix = f"{rest.rstrip('/')}/" if rest else ""
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    entries: dict[str, dict] = {}
    for path, file in sorted(found.commits[commit]["files"].items()):
        if not path.startswith(prefix):
            continue
        *folders, _ = path.removeprefix(prefix).split("/")
        for depth in range(1, len(folders) + 1 if recursive else min(len(folders), 1) + 1):
            name = prefix + "/".join(folders[:depth])
            oid = hashlib.sha1(name.encode()).hexdigest()
            entries[name] = {"type": "directory", "path": name, "size": 0, "oid": oid}
        if recursive or not folders:
            entries[path] = described(path, file)
    return Response(list(entries.values()))


@route("POST", "/api/models/{repo}/paths-info/{revision}")
def paths_info(hub: Hub, request: Request, repo: str, revision: str) -> Response:
    found, commit = hub.commit(request, repo, revision)
    try:
        paths = request.json()["paths"]
    except ValueError:
        paths = parse_qs(request.body.decode()).get("paths", [])
    files = found.commits[commit]["files"]
    return Response([described(path, files[path]) for path in paths if path in files])


@route("GET", "/api/models/{repo}/commits/{revision}")
def commits(hub: Hub, request: Request, repo: str, revision: str) -> Response:
    found, commit = hub.commit(request, repo, revision)
    told = []
    while commit:
        entry = found.commits[commit]
        told.append(
            {
                "id": commit,
                "title": entry["title"],
                "message": entry["message"],
                "date": entry["date"],
                "authors": [{"user": hub.user}],
            }
        )
        commit = entry["parent"]
    return Response(told)


# --- files up -----------------------------------------------------------------------------------


@route("POST", "/api/models/{repo}/preupload/{revision}")
def preupload(hub: Hub, request: Request, repo: str, revision: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    found, commit = hub.commit(request, repo, revision)
    there = found.commits[commit]["files"]
    told = []
    for file in request.json()["files"]:
        known = there.get(file["path"], {})
        mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
        oid = known.get("lfs") or known.get("oid")
        told.append({"path": file["path"], "shouldIgnore": False, "uploadMode": mode, "oid": oid})
    return Response({"files": told})


@route("POST", "/{repo}.git/info/lfs/objects/batch")
def large_batch(hub: Hub, request: Request, repo: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    hub.repository(request, repo)
    objects = []
    for wanted in request.json()["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        if wanted["oid"] not in hub.store.blobs:
            upload = {"href": f"{request.base}/_lfs/{wanted['oid']}"}
            verify = {"href": f"{request.base}/_lfs/verify"}
            entry["actions"] = {"upload": upload, "verify": verify}
        objects.append(entry)
    return Response({"transfer": "basic", "objects": objects})


@route("PUT", "/_lfs/{name}")
def large_upload(hub: Hub, request: Request, name: str) -> Response:
    if hashlib.sha256(request.body).hexdigest() != name:
        raise Refused(400, "sha256 mismatch")
    hub.store.add_blob(request.body, large=True)
    return Response({})


@route("POST", "/_lfs/verify")
def large_verify(hub: Hub, request: Request) -> Response:
    return Response({})


@route("POST", "/api/models/{repo}/commit/{revision}")
def commit(hub: Hub, request: Request, repo: str, revision: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    found, parent = hub.commit(request, repo, revision)
    if "create_pr" in request.query:
        raise Refused(400, "pull requests are not what this server is for")
    files, header = dict(found.commits[parent]["files"]), {}
    for line in request.body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        match entry["key"]:
            case "header":
                header = value
            case "file":
                files[value["path"]] = hub.store.small_file(base64.b64decode(value["content"]))
            case "lfsFile":
                if value["oid"] not in hub.store.blobs:
                    raise Refused(400, f"the large file {value['path']} was never uploaded")
                files[value["path"]] = hub.store.large_file(value["oid"])
            case "deletedFile":
                files.pop(value["path"], None)
            case "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                files = {k: v for k, v in files.items() if not k.startswith(folder)}
    if header.get("parentCommit") not in (None, found.branches.get(revision)):
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    oid = found.commit(revision, files, header.get("summary", ""), header.get("description", ""))
    hub.store.save()
    url = f"{request.base}/{repo}/commit/{oid}"
    return Response({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


# --- files down ---------------------------------------------------------------------------------


@route("GET", "/{repo}/resolve/{revision}/{rest}")
def resolve(hub: Hub, request: Request, repo: str, revision: str, rest: str) -> Response:
    found, commit = hub.commit(request, repo, revision)
    if found.gated and request.token is None:
        raise Refused(401, "Access to this model is restricted: log in.", "GatedRepo")
    file = found.commits[commit]["files"].get(rest)
    if file is None:
        refused = Refused(404, "Entry not found", "EntryNotFound")
        refused.response.headers["X-Repo-Commit"] = commit
        raise refused
    headers = {"X-Repo-Commit": commit, "ETag": f'"{file["lfs"] or file["oid"]}"'}
    if file["lfs"]:
        headers |= {"X-Linked-Etag": f'"{file["lfs"]}"', "X-Linked-Size": str(file["size"])}
        if hub.cdn:
            # Another host than 127.0.0.1, so that a client that sends it the token shows.
            other = request.base.replace("127.0.0.1", "localhost")
            return Response(b"", 302, headers | {"Location": f"{other}/_cdn/{file['lfs']}"})
    return part(hub.store.data(file), request, headers)


@route("GET", "/_cdn/{name}")
def cdn(hub: Hub, request: Request, name: str) -> Response:
    if request.token is not None:
        raise Refused(400, "Only one auth mechanism allowed")
    return part(hub.store.blobs[name], request, {"ETag": f'"{name}"'})


def part(data: bytes, request: Request, headers: dict) -> Response:
    """A file, or the part that the request's Range asks for."""
    headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    wanted = re.match(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Response(data, 200, headers)
    first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
    if first >= len(data):
        return Response(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
    return Response(data[first : last + 1], 206, headers)
