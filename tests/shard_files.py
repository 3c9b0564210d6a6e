"""Shards for tests."""

import io
import tarfile

from PIL import Image


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (4, 3), value % 256).save(buffer, "png")
    return buffer.getvalue()


def write_tar(path, members, kind=tarfile.PAX_FORMAT):
    """A tar of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_shards(root, count=4, samples=5, labels=False, first=0):
    """Shards 00000.tar and so on, as img2dataset makes them; image k is all k."""
    for shard in range(first, first + count):
        members = []
        for sample in range(samples):
            number = shard * samples + sample
            stem = f"{shard:05}{sample:04}"
            members.append((f"{stem}.jpg", png(number)))
            members.append((f"{stem}.txt", b"a caption"))
            members.append((f"{stem}.json", b'{"class": %d, "url": "x"}' % (number % 3)))
            if labels:
                members.insert(-3, (f"{stem}.cls", b"%d\n" % (number % 3)))
        write_tar(root / f"{shard:05}.tar", members)
    return f"shards:{root}"


def values(source):
    return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


def names(source):
    return [source.example_name(i) for i in range(len(source))]
