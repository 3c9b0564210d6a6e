"""Images with boxes: files of Pascal VOC and COCO, and what is refused."""

import json
import logging
import tarfile

import numpy as np
import pytest
from box_files import NAMES, OBJECTS, coco, picture, png, rows, write, write_voc, xml
from mimzoo_training import cli

from mimzoo.data import (
    Loader,
    open_boxes,
    take_subset,
)
from mimzoo.data.box_signs import has_boxes
from mimzoo.data.label_map_files import has_label_maps
from mimzoo.data.objects import CROWD, DIFFICULT
from mimzoo.data.voc_files import parse_xml

pytestmark = pytest.mark.one_backend


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "tiny")


# --- Pascal VOC -----------------------------------------------------------------------------------


def test_a_folder_of_xml_files_and_a_tar_of_it(voc, tmp_path):
    source = open_boxes(voc)
    assert (len(source), source.class_names, source.kind) == (4, NAMES, "folder")
    assert rows(source) == OBJECTS
    assert (source.boxed, source.max_objects) == (True, 2)
    assert source.example_name(1) == "train/images/1.png"
    np.testing.assert_array_equal(source[0]["image"], picture(OBJECTS[0]))
    with tarfile.open(tmp_path / "tiny.tar", "w") as tar:
        tar.add(voc, "tiny")
    packed = open_boxes(tmp_path / "tiny.tar", "validation")
    assert (rows(packed), packed.class_names, packed.kind) == (OBJECTS[:2], NAMES, "tar")
    assert len({s.fingerprint() for s in (source, packed, open_boxes(voc, "validation"))}) == 3
    before = source.fingerprint()
    assert open_boxes(voc).fingerprint() == before
    text = (voc / "train/annotations/0.xml").read_text().replace("<xmin>3<", "<xmin>4<")
    (voc / "train/annotations/0.xml").write_text(text)
    assert open_boxes(voc).fingerprint() != before


def test_what_seems_to_have_boxes(voc, tmp_path, capsys):
    write(tmp_path / "maps/images/1.png", png(picture(OBJECTS[0])))
    write(tmp_path / "maps/labels/1.png", png(picture(OBJECTS[0])))
    assert has_boxes(voc)
    assert not has_label_maps(voc)
    assert has_label_maps(tmp_path / "maps")
    for other in (tmp_path / "maps", tmp_path / "gone", "embedded", voc / "train/images"):
        assert not has_boxes(other)
    content = coco(OBJECTS)
    layouts = {
        "coco": {"annotations/instances_train2017.json": content, "train2017/0.png": b""},
        "large": {"annotations/instances_train.json": {**content, "more": "x" * 2**18}},
        "roboflow": {"train/_annotations.coco.json": content, "train/0.png": b""},
        "flat": {"0.xml": xml([]), "0.png": b""},
        "wide": {"train/0.xml": xml([]).encode("utf-16"), "train/0.png": b""},
    }
    plain = {
        "classes": {"a/0.png": b"", "b/0.png": b"", "a/0.json": {"images": [1]}, "b/0.xml": "<x/>"},
        "exported": {"a/0.png": b"", "data.json": [{"images": [], "annotations": []}]},
        "captions": {"annotations/captions_train.json": content, "train/0.png": b""},
        "hidden": {"a/0.png": b"", ".cache/0.xml": xml([]), "a/._0.xml": xml([])},
        "many": {f"{name}/0.xml": xml([]) for name in "abcdefghi"},
    }
    for name, files in {**layouts, **plain}.items():
        for file, what in files.items():
            write(tmp_path / name / file, json.dumps(what) if isinstance(what, list) else what)
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            tar.add(tmp_path / name, name)
        assert has_boxes(tmp_path / name) == (name in layouts), name
        assert has_boxes(tmp_path / f"{name}.tar") == (name in layouts or name == "many"), name
    assert cli.main(["finetune", "p", "--data", str(voc), "--workdir", str(tmp_path / "w")]) == 1
    assert "has boxes beside its images: add --task detect" in capsys.readouterr().err


def test_xml_beside_images(tmp_path):
    for number in range(20):
        write(tmp_path / f"{number}.png", png(picture(OBJECTS[0])))
        write(tmp_path / f"{number}.xml", xml(OBJECTS[0], size=None))
    parts = [open_boxes(tmp_path, split) for split in ("train", "validation")]
    assert sum(map(len, parts)) == 20
    assert all(part.boxed and part.max_objects == 2 and part.class_names == NAMES for part in parts)
    assert rows(parts[1])[0] == OBJECTS[0]
    assert "objects" in take_subset(parts[0], count=2)[0]


def test_the_lists_of_voc(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        root = tmp_path / year
        for number, objects in enumerate(OBJECTS):
            write(root / f"JPEGImages/{number}.jpg", png(picture(objects)))
            write(root / f"Annotations/{number}.xml", xml(objects))
        write(root / "JPEGImages/unlisted.jpg", png(picture([])))
        write(root / "SegmentationClass/0.png", png(picture([])))
        write(root / "ImageSets/Main/train.txt", "0\n1\n")
        write(root / "ImageSets/Main/val.txt", "2\n\n")
        write(root / "ImageSets/Main/trainval.txt", "0\n1\n2\n")
        write(root / "ImageSets/Main/bar_train.txt", "0  1\n1 -1\n")
    assert rows(open_boxes(tmp_path)) == OBJECTS[:2] * 2
    assert rows(open_boxes(tmp_path, "validation")) == OBJECTS[2:3] * 2
    write(tmp_path / "VOC2007/ImageSets/Main/val.txt", "2\n9\n")
    with pytest.raises(ValueError, match=r"1 images that ImageSets/Main lists .* VOC2007/9: add"):
        open_boxes(tmp_path)
    write(tmp_path / "VOC2007/ImageSets/Main/val.txt", "1\n")
    with pytest.raises(ValueError, match="VOC2007/1 is in two lists of VOC2007/ImageSets/Main"):
        open_boxes(tmp_path)


def test_classes_and_difficult_objects(voc):
    write(voc / "train/annotations/1.xml", xml([(*OBJECTS[1][0], True)]))
    assert open_boxes(voc).objects(1).kinds.tolist() == [DIFFICULT]
    assert len(open_boxes(voc).objects(1).learned.boxes) == 1
    write(voc / "val/annotations/1.xml", xml(OBJECTS[1], names=("bar", "comet")))
    with pytest.raises(ValueError, match=r"1\.xml has the class comet, which is none of bar, dot"):
        open_boxes(voc, "validation")
    assert open_boxes(voc).class_names == NAMES
    write(voc / "classes.txt", "comet\ndot\nbar\n")
    assert open_boxes(voc, "validation").objects(1).labels.tolist() == [0]
    assert open_boxes(voc).objects(0).labels.tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"0\.xml has the class dot, which is none of bar$"):
        open_boxes(voc, class_names=["bar"])


def test_pixels_are_counted_from_one(tmp_path):
    text = xml([]).replace(
        "</annotation>",
        "<object><name>a</name><part><bndbox><xmin>9</xmin></bndbox></part><bndbox><xmin>1</xmin>"
        "<ymin>0</ymin><xmax>32</xmax><ymax>24.5</ymax></bndbox></object></annotation>",
    )
    write(tmp_path / "a.png", png(picture([])))
    write(tmp_path / "a.xml", text)
    assert open_boxes(tmp_path, holdout=0).objects(0).boxes.tolist() == [[0, 0, 32, 24]]


# --- COCO -----------------------------------------------------------------------------------------


def test_cocos_own_layout(tmp_path):
    splits = ("train", OBJECTS), ("val", OBJECTS[:2])
    for split, objects in splits:
        write(tmp_path / f"annotations/instances_{split}2017.json", coco(objects))
        write(tmp_path / f"annotations/person_keypoints_{split}2017.json", "[")
        for number, row in enumerate(objects):
            write(tmp_path / f"{split}2017/{number}.png", png(picture(row)))
    source = open_boxes(tmp_path)
    assert (len(source), source.class_names) == (4, NAMES)
    assert rows(source) == OBJECTS
    assert source.example_name(3) == "train2017/3.png"
    held = open_boxes(tmp_path, "validation", class_names=["none", "dot", "bar"])
    assert held.objects(0).labels.tolist() == [2, 1]
    assert held.example_name(1) == "val2017/1.png"
    with pytest.raises(ValueError, match=r"val2017\.json has the class dot, which is none of bar"):
        open_boxes(tmp_path, "validation", class_names=["bar"])


def test_json_beside_images_and_crowds(tmp_path):
    crowd = [[(*OBJECTS[0][0], True), OBJECTS[0][1]], *OBJECTS[1:]]
    for split in ("train", "valid"):
        write(tmp_path / split / "_annotations.coco.json", coco(crowd))
        for number, row in enumerate(OBJECTS):
            write(tmp_path / split / f"{number}.png", png(picture(row)))
    source = open_boxes(tmp_path, "validation")
    assert source.example_name(0) == "valid/0.png"
    assert source.objects(0).kinds.tolist() == [CROWD, 0]
    assert source.max_objects == 1
    targets = Loader(source, 4, shuffle=False).batch(0)[1]
    assert targets["labels"].tolist() == [[1], [1], [0], [-1]]


# --- what is refused ------------------------------------------------------------------------------


def test_a_few_wrong_boxes_are_named_and_left_out(voc, caplog):
    empty, beyond = (5, 5, 5, 9, 0), (20, 10, 40, 19, 1)
    write(voc / "train/annotations/2.xml", xml([*OBJECTS[2], empty, beyond]))
    with caplog.at_level(logging.WARNING):
        found = rows(open_boxes(voc))
    assert found[2] == [*OBJECTS[2], (20, 10, 32, 19, 1)]
    text = caplog.text
    assert "1 boxes are left out: train/annotations/2.xml has the box (5, 5, 5, 9), which " in text
    assert "1 boxes reach beyond their image and are clipped, such as train/annotation" in text
    outside = [(33, 3, 40, 8, 0)] * 5
    write(voc / "train/annotations/3.xml", xml(outside))
    with pytest.raises(ValueError, match=r"6 of 11 boxes are wrong, such as: train/annot.*2\.xml"):
        open_boxes(voc)
    write(voc / "train/annotations/2.xml", xml(OBJECTS[2]))
    with pytest.raises(
        ValueError, match=r"3\.xml has the box \(33, 3, 40, 8\), outside of 32 x 24"
    ):
        open_boxes(voc)


def replaced(old, new):
    return lambda text: text.replace(old, new)


BAD_XML = {
    "cut off": (lambda text: text[:40], r"1\.xml is no XML: "),
    "empty": (lambda text: "", r"1\.xml is no XML: no element found"),
    "another document": (lambda text: "<html></html>", r"1\.xml is no Pascal VOC annotation: it"),
    "no number": (replaced("<xmax>9<", "<xmax>nine<"), r"1\.xml: <bndbox/xmax> must be a number"),
    "not finite": (replaced("<xmax>9<", "<xmax>inf<"), r"1\.xml: <bndbox/xmax> must be a number"),
    "no name": (replaced("<name>dot</name>", ""), r"1\.xml has an object without <name>"),
    "document type": (
        lambda text: '<!DOCTYPE a [<!ENTITY e "dot">]>' + text.replace("dot", "&e;"),
        r"1\.xml has a document type",
    ),
    "size": (
        replaced("<width>32<", "<width>64<"),
        r"1\.xml has boxes for 64 x 24 pixels, and .*1\.png",
    ),
}


@pytest.mark.parametrize("change", BAD_XML)
def test_broken_xml_is_named(voc, change):
    make, message = BAD_XML[change]
    write(voc / "train/annotations/1.xml", make(xml(OBJECTS[1])))
    with pytest.raises(ValueError, match=message):
        Loader(open_boxes(voc), 4).batch(0)


def test_no_document_type_in_any_encoding():
    bomb = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'
    for data in (bomb.encode("utf-16"), bomb.replace("-16", "-8").encode()):
        with pytest.raises(ValueError, match="has a document type"):
            parse_xml(data, "a.xml")
    with pytest.raises(ValueError, match="has 16777217 bytes, more than any annotation"):
        parse_xml(b" " * (2**24 + 1), "a.xml")
    with pytest.raises(ValueError, match=r"a\.xml is no XML"):
        parse_xml(b'<?xml version="1.0" encoding="no-such"?><a/>', "a.xml")


def test_missing_files_and_objects(voc, tmp_path):
    (voc / "train/images/1.png").unlink()
    with pytest.raises(
        ValueError, match=r"1 files have no image, such as train/annotations/1\.xml"
    ):
        open_boxes(voc)
    (voc / "train/annotations/1.xml").unlink()
    (voc / "train/annotations/0.xml").unlink()
    with pytest.raises(ValueError, match=r"1 files have no XML file, such as train/images/0\.png"):
        open_boxes(voc)
    write_voc(tmp_path / "none", [("train", [[], []])])
    with pytest.raises(ValueError, match="none has no objects in its 2 images: a detector needs"):
        open_boxes(tmp_path / "none", holdout=0)
    write(tmp_path / "plain/a.png", png(picture([])))
    with pytest.raises(ValueError, match="plain has no boxes: put an XML file beside each image"):
        open_boxes(tmp_path / "plain")
    with pytest.raises(FileNotFoundError):
        open_boxes(tmp_path / "gone")


def annotation(**changes):
    def change(content):
        content["annotations"][1] |= changes
        return content

    return change


def without(key, part="annotations"):
    def change(content):
        del content[part][0][key]
        return content

    return change


BAD_JSON = {
    "cut off": (lambda content: '{"images": [', r"a\.json is no JSON: "),
    "deep": (lambda content: "[" * 100_000, r"a\.json is no JSON: "),
    "another file": (lambda content: "[]", r'a\.json is no COCO file: it needs "images"'),
    "no box": (without("bbox"), r"a\.json: annotation 0 cannot be read: 'bbox' is missing"),
    "three numbers": (annotation(bbox=[1, 2, 3]), r"annotation 1 cannot be read: not enough"),
    "words": (annotation(bbox="abcd"), r"annotation 1 cannot be read: could not convert"),
    "no name": (without("file_name", "images"), r"image 0 cannot be read: 'file_name' is missing"),
    "lists": (lambda content: content | {"images": [3]}, r"image 0 cannot be read"),
    "category": (annotation(category_id=8), r"annotation 1 has the category 8, which is not there"),
    "image": (annotation(image_id=9), r"a\.json: annotation 1 is of image 9, which is not there"),
    "empty": (
        lambda content: (
            annotation(bbox=[1, 2, 0, 3])(content | {"images": content["images"][:1]})
            | {"annotations": content["annotations"][1:2]}
        ),
        r"a\.json, 0\.png has the box \(1, 2, 1, 5\), which is empty",
    ),
}


@pytest.mark.parametrize("change", BAD_JSON)
def test_broken_json_is_named(tmp_path, change):
    make, message = BAD_JSON[change]
    for number, objects in enumerate(OBJECTS):
        write(tmp_path / f"images/{number}.png", png(picture(objects)))
    write(tmp_path / "a.json", make(coco(OBJECTS)))
    with pytest.raises(ValueError, match=message):
        open_boxes(tmp_path, holdout=0)


def test_images_of_a_json_file(tmp_path):
    for number, objects in enumerate(OBJECTS[:2]):
        write(tmp_path / f"images/{number}.png", png(picture(objects)))
    write(tmp_path / "a.json", coco(OBJECTS))
    with pytest.raises(ValueError, match=r"2 of 4 images of a\.json are missing, such as 2\.png"):
        open_boxes(tmp_path)
    write(tmp_path / "a.json", coco(OBJECTS[:2]))
    assert len(open_boxes(tmp_path, holdout=0)) == 2
    write(tmp_path / "more/1.png", png(picture([])))
    with pytest.raises(ValueError, match=r"1\.png of a\.json may be images/1\.png and more/1\.png"):
        open_boxes(tmp_path)
    write(tmp_path / "b.json", coco(OBJECTS[:2]))
    with pytest.raises(ValueError, match=r"has both a\.json and b\.json for train"):
        open_boxes(tmp_path)
    names = coco([[]], names=("a", "a"))
    write(tmp_path / "b.json", "")
    (tmp_path / "b.json").unlink()
    write(tmp_path / "a.json", names)
    with pytest.raises(ValueError, match=r"a\.json has two categories named a: rename"):
        open_boxes(tmp_path)
