"""`mimzoo doctor` of images with boxes and of images with label maps."""

import io
import json
import tarfile

import numpy as np
import pytest
from box_files import OBJECTS, coco, picture, png, xml
from box_files import write as write_file
from PIL import Image
from test_doctor import doctor

pytestmark = pytest.mark.one_backend


def found(capsys, root) -> tuple[int, str]:
    code, lines = doctor(capsys, root)
    return code, "\n".join(lines)


def noise(number: int, height: int = 24, width: int = 32) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), "uint8")
    return png(pixels)


def write(root, files: dict[str, bytes | str]):
    for name, content in files.items():
        write_file(root / name, content)
    return root


def voc(root, objects=OBJECTS):
    files = {}
    for number, things in enumerate(objects):
        files[f"JPEGImages/{number}.png"] = noise(number)
        files[f"Annotations/{number}.xml"] = xml(things)
    return write(root, files)


def test_boxes_of_voc(tmp_path, capsys):
    root = voc(tmp_path / "d")
    code, text = found(capsys, root)
    assert (code, "nothing is wrong" in text) == (0, True)
    for row in ("train 4 4 ", "bar 2", "dot 2", "without objects 1"):
        assert row in text
    write(
        root,
        {
            "classes.txt": "bar\nspot\n",
            "JPEGImages/4.png": noise(4),  # without annotation
            "Annotations/5.xml": xml([]),  # without image
            "JPEGImages/6.png": noise(6, 20, 20),
            "Annotations/6.xml": xml([(1, 1, 5, 5, 0)]),
            "JPEGImages/7.png": noise(7),
            "Annotations/7.xml": xml([(3, 3, 3, 9, 0), (40, 30, 50, 40, 0), (20, 9, 36, 20, 0)]),
            "JPEGImages/8.png": b"junk",
            "Annotations/8.xml": xml([]),
            "JPEGImages/9.png": noise(9),
            "Annotations/9.xml": "<annotation>",
        },
    )
    code, text = found(capsys, root)
    assert code == 1
    for row in (
        "image without annotation 1 JPEGImages/4.png",
        "annotation of a missing image 1 Annotations/5.xml",
        "boxes for another size 1 Annotations/6.xml: 32 x 24,",
        "empty box 1 Annotations/7.xml",
        "box outside of the image 1 Annotations/7.xml has the box (40, 30, 50, 40)",
        "box that reaches beyond the image 1 Annotations/7.xml",
        "class that is not in classes.txt 2 Annotations/0.xml: dot",
        "cannot be read 2",
        "spot 0",
    ):
        assert row in text, row


def test_boxes_of_coco(tmp_path, capsys):
    content = coco(OBJECTS)
    names = [image["file_name"] for image in content["images"]]
    files = {f"images/{name}": noise(number) for number, name in enumerate(names)}
    root = write(tmp_path, {**files, "annotations/instances_train.json": json.dumps(content)})
    assert found(capsys, root)[0] == 0
    (root / "images" / names[0]).unlink()
    write(root, {"images/other.png": noise(9)})
    content["annotations"][3]["bbox"] = [4, float("nan"), 3, 3]
    content["annotations"][2]["bbox"] = [4, 5, 0, 3]
    write(root, {"annotations/instances_train.json": json.dumps(content)})
    code, text = found(capsys, root)
    assert code == 1
    for row in (
        f"annotation of a missing image 1 annotations/instances_train.json, {names[0]}",
        "image without annotation 1 images/other.png",
        "box that is not finite 1 annotations/instances_train.json",
        "empty box 1 annotations/instances_train.json",
        "train 3 3 ",
    ):
        assert row in text, row
    content["annotations"][0]["category_id"] = 99
    write(root, {"annotations/instances_train.json": json.dumps(content)})
    assert "has the category 99, which is not there" in " ".join(found(capsys, root)[1].split())


def test_boxes_of_any_layout(tmp_path, capsys):
    content = coco(OBJECTS)
    names = [image["file_name"] for image in content["images"]]
    for folder, file in (
        ("train2017", "annotations/instances_train2017.json"),
        ("train", "train/_annotations.coco.json"),
    ):
        files = {f"{folder}/{name}": noise(number) for number, name in enumerate(names)}
        root = write(tmp_path / folder, {**files, file: json.dumps(content)})
        code, text = found(capsys, root)
        assert (code, "without objects 1" in text) == (0, True)
    flat = {}
    for number, things in enumerate(OBJECTS):
        flat |= {f"{number}.png": noise(number), f"{number}.xml": xml(things)}
    root = write(tmp_path / "flat", flat)
    with tarfile.open(tmp_path / "flat.tar", "w") as tar:
        tar.add(root, "flat")
    for path in (root, tmp_path / "flat.tar"):
        code, text = found(capsys, path)
        assert (code, "without objects 1" in text) == (0, True)


def label_map(*numbers: int, size=(24, 32)) -> bytes:
    pixels = np.resize(np.array(numbers, "uint8"), size)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_label_maps(tmp_path, capsys):
    files = {f"train/JPEGImages/{n}.png": noise(n) for n in range(3)}
    files |= {f"train/labels/{n}.png": label_map(0, 1, 255) for n in range(2)}
    files |= {"train/labels/2.png": label_map(1), "classes.txt": "road\ntree\n"}
    root = write(tmp_path, files)
    code, text = found(capsys, root)
    assert (code, "nothing is wrong" in text) == (0, True)
    for row in ("train 3 3 ", "0: road 2", "1: tree 3", "255: no class 2"):
        assert row in text
    more = {f"train/JPEGImages/{n}.png": noise(n) for n in (3, 4, 5, 6)}
    more |= {
        "train/labels/3.png": label_map(0, 7),
        "train/labels/4.png": label_map(0, size=(24, 30)),
        "train/labels/5.png": png(picture([])),  # colours
        "train/labels/9.png": label_map(0),
    }
    code, text = found(capsys, write(root, more))
    assert code == 1
    for row in (
        "image without label map 1 train/JPEGImages/6.png",
        "label map of a missing image 1 train/labels/9.png",
        "number that classes.txt does not name 1 train/labels/3.png: 7",
        "label map of another size 1 train/labels/4.png: 30 x 24 pixels, its image 32 x 24",
        "is a picture of mode RGB, no label map",
    ):
        assert row in text, row
