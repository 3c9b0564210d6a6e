"""A tiny detection data set: bright rectangles on black, written as Pascal VOC or COCO."""

import io
import json

import numpy as np
from PIL import Image

NAMES = ("bar", "dot")
# x1, y1, x2, y2, class; the last image has nothing on it.
OBJECTS = [
    [(2, 3, 12, 8, 0), (20, 10, 28, 19, 1)],
    [(0, 0, 9, 6, 1)],
    [(15, 5, 32, 24, 0)],
    [],
]
HEIGHT, WIDTH = 24, 32


def picture(objects, height=HEIGHT, width=WIDTH):
    """(H, W, 3) uint8: red where class 0 is, green where class 1 is."""
    image = np.zeros((height, width, 3), "uint8")
    for x1, y1, x2, y2, label in objects:
        image[y1:y2, x1:x2, label] = 255
    return image


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def xml(objects, size=(HEIGHT, WIDTH), names=NAMES) -> str:
    """A Pascal VOC annotation; pixels are counted from 1, and an object may have a sixth number."""
    parts = []
    for x1, y1, x2, y2, label, *difficult in objects:
        corners = ("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)
        box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        parts.append(
            f"<object><name>{names[label]}</name><difficult>{int(bool(difficult))}</difficult>"
            f"<bndbox>{box}</bndbox></object>"
        )
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    return f"<annotation>{sides}{''.join(parts)}</annotation>"


def coco(objects, names=NAMES, first_id=7, step=5, size=(HEIGHT, WIDTH)) -> dict:
    """A COCO file's content; category ids are first_id, first_id + step, …"""
    ids = [first_id + step * number for number in range(len(names))]
    annotations = [
        {
            "id": 100 * image + number,
            "image_id": image + 50,
            "category_id": ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": int(bool(crowd)),
            "area": 1.0,
            "segmentation": [[0, 0, 1, 1, 2, 2]],
        }
        for image, row in enumerate(objects)
        for number, (x1, y1, x2, y2, label, *crowd) in enumerate(row)
    ]
    images = [
        {"id": n + 50, "file_name": f"{n}.png", "height": size[0], "width": size[1]}
        for n in range(len(objects))
    ]
    categories = [{"id": i, "name": n} for i, n in zip(ids, names, strict=True)]
    # In the order of a file that nobody sorted.
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_voc(root, splits=(("train", OBJECTS), ("val", OBJECTS[:2]))):
    """train/images/0.png, train/annotations/0.xml and so on."""
    for split, images in splits:
        for number, objects in enumerate(images):
            write(root / split / f"images/{number}.png", png(picture(objects)))
            write(root / split / f"annotations/{number}.xml", xml(objects))
    return root


def rows(source):
    """Objects of all images, as `OBJECTS` has them."""
    found = [source.objects(index) for index in range(len(source))]
    return [
        [(*box, label) for box, label in zip(o.boxes.tolist(), o.labels.tolist(), strict=True)]
        for o in found
    ]
