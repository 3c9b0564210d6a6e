"""The routes of the tests' Hub about collections."""

import hashlib
import re

from hub_protocol import Hub, Refused, Request, Response, route
from hub_store import now


def collection(hub: Hub, slug: str) -> dict:
    if slug not in hub.store.collections:
        raise Refused(404, "Collection not found")
    return hub.store.collections[slug]


@route("GET", "/api/collections")
def list_collections(hub: Hub, request: Request) -> Response:
    owner = request.query.get("owner", [None])[0]
    found = [c for c in hub.store.collections.values() if owner in (None, c["owner"]["name"])]
    # The Hub lists at most four items of each, and the client numbers the collections.
    return Response(
        [{k: v for k, v in c.items() if k != "position"} | {"items": c["items"][:4]} for c in found]
    )


@route("POST", "/api/collections")
def create_collection(hub: Hub, request: Request) -> Response:
    wanted = request.json()
    owner = wanted["namespace"]
    hub.check_writer(request, owner)
    for slug, known in hub.store.collections.items():
        if (known["owner"]["name"], known["title"]) == (owner, wanted["title"]):
            raise Refused(409, "This collection already exists", slug=slug)
    words = re.sub(r"[^a-z0-9]+", "-", wanted["title"].lower()).strip("-")
    slug = f"{owner}/{words}-{hashlib.sha1(words.encode()).hexdigest()[:24]}"
    hub.store.collections[slug] = {
        "slug": slug,
        "title": wanted["title"],
        "description": wanted.get("description"),
        "owner": {"name": owner},
        "items": [],
        "lastUpdated": now(),
        "position": 0,
        "private": wanted.get("private", False),
        "theme": "green",
        "upvotes": 0,
    }
    hub.store.save()
    return Response(hub.store.collections[slug])


@route("GET", "/api/collections/{repo}")
def get_collection(hub: Hub, request: Request, repo: str) -> Response:
    return Response(collection(hub, repo))


@route("PATCH DELETE", "/api/collections/{repo}")
def change_collection(hub: Hub, request: Request, repo: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    found = collection(hub, repo)
    if request.method == "DELETE":
        del hub.store.collections[repo]
    else:
        found.update(request.json(), lastUpdated=now())
    hub.store.save()
    return Response({"data": found})


@route("POST", "/api/collections/{repo}/items")
def add_item(hub: Hub, request: Request, repo: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    found, wanted = collection(hub, repo), request.json()
    item = wanted["item"]
    if item["type"] == "model":
        hub.repository(request, item["id"])
    if any((i["id"], i["type"]) == (item["id"], item["type"]) for i in found["items"]):
        raise Refused(409, "This item is already in the collection")
    name = hashlib.sha1(f"{repo} {item}".encode()).hexdigest()[:24]
    note = {"note": {"text": wanted["note"]}} if wanted.get("note") else {}
    found["items"].append({"_id": name, **item, "position": len(found["items"]), **note})
    found["lastUpdated"] = now()
    hub.store.save()
    return Response(found)


@route("PATCH DELETE", "/api/collections/{repo}/items/{name}")
def change_item(hub: Hub, request: Request, repo: str, name: str) -> Response:
    hub.check_writer(request, repo.split("/")[0])
    found = collection(hub, repo)
    for item in found["items"]:
        if item["_id"] == name:
            break
    else:
        raise Refused(404, "Item not found")
    if request.method == "DELETE":
        found["items"].remove(item)
    else:
        wanted = request.json()
        if "note" in wanted:
            item["note"] = {"text": wanted["note"]}
        if "position" in wanted:
            found["items"].remove(item)
            found["items"].insert(wanted["position"], item)
    for position, each in enumerate(found["items"]):
        each["position"] = position
    hub.store.save()
    return Response({})
