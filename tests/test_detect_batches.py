"""Images with boxes: transforms that keep them aligned, and batches."""

import numpy as np
import pytest
from box_files import HEIGHT, OBJECTS, WIDTH, picture, rows, write_voc

from mimzoo.data import (
    BoxedPictures,
    Compose,
    Loader,
    Normalize,
    Photometric,
    RandomFlip,
    RandomResizedCrop,
    ResizePad,
    ScaleJitter,
    open_boxes,
    take_subset,
)
from mimzoo.data.feed import make_feed
from mimzoo.data.inputs import Inputs
from mimzoo.data.random import uniform

pytestmark = pytest.mark.one_backend


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "tiny")


# --- transforms -----------------------------------------------------------------------------------


TRANSFORMS = [
    RandomFlip(1.0),
    ScaleJitter((48, 64)),
    ScaleJitter((30, 20), (0.5, 3.0)),
    ScaleJitter((48, 64), (1.0, 1.0)),
    ResizePad((40, 33)),
    ResizePad((100, 300)),
    Compose(
        [ScaleJitter((48, 64), fill=(0, 0, 0)), RandomFlip(), Photometric(8, (1, 1), (1, 1), 0)]
    ),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_boxes_stay_aligned(transform):
    """The bright pixels of a result lie where its box says, to a pixel."""
    rng, seen = np.random.default_rng(0), 0
    for u in uniform(0, 0, np.arange(40), transform.draws, stream="augment"):
        x1, y1 = rng.integers(0, (70, 50))
        x2, y2 = x1 + rng.integers(9, 30), y1 + rng.integers(9, 30)
        image = picture([(x1, y1, x2, y2, 0)], 80, 100)
        objects = BoxedPictures([image], [{"boxes": [(x1, y1, x2, y2)], "labels": [0]}], 1).objects(
            0
        )
        result, moved = transform.with_boxes(image, objects, u)
        assert result.dtype == np.uint8
        bright = (result[..., 0] > 128) & (result[..., 1] < 64)
        if not len(moved.boxes):
            assert bright.sum() <= max(bright.shape)
            continue
        seen += 1
        down, across = np.nonzero(bright)
        if len(down):
            found = across.min(), down.min(), across.max() + 1, down.max() + 1
            np.testing.assert_allclose(moved.boxes[0], found, atol=1.01)
        height, width = result.shape[:2]
        assert (moved.boxes >= 0).all()
        assert (moved.boxes <= [width, height, width, height]).all()
    assert seen > 15


def test_what_leaves_the_crop():
    objects = BoxedPictures(
        [picture([])], [{"boxes": [[0, 0, 8, 8], [8, 8, 24, 20]], "labels": [0, 1]}], 2
    )
    # Twice the size, of which the lower right quarter is shown.
    result, moved = ScaleJitter((24, 32), (2, 2)).with_boxes(
        picture([]), objects.objects(0), np.array([0, 1 - 1e-9, 1 - 1e-9])
    )
    assert result.shape == (24, 32, 3)
    assert moved.boxes.tolist() == [[0, 0, 16, 16]]
    assert moved.labels.tolist() == [1]
    # A tenth: boxes of 8 pixels have less than one.
    small = ScaleJitter((24, 32), (0.1, 0.1)).with_boxes(
        picture([]), objects.objects(0), np.zeros(3)
    )
    assert small[1].labels.tolist() == [1]


def test_scales_are_those_asked_for():
    transform = ScaleJitter((100, 100), (0.1, 2.0))
    sides = [transform.place(50, 200, u).scaled for u in uniform(0, 0, np.arange(4000), 3)]
    wide = np.array([width for _, width in sides])
    assert wide.min() >= 10
    assert wide.max() <= 200
    assert abs(wide.mean() - 105) < 3
    assert all(abs(width / height - 4) <= 0.4 for height, width in sides if height > 10)
    places = {transform.place(50, 200, u).window for u in uniform(1, 0, np.arange(50), 3)}
    assert len(places) > 40


def test_predictions_return_to_the_image():
    transform = ResizePad((64, 64))
    objects = BoxedPictures(
        [picture(OBJECTS[0])], [{"boxes": [o[:4] for o in OBJECTS[0]], "labels": [0, 1]}], 2
    )
    _, moved = transform.with_boxes(picture([]), objects.objects(0), np.zeros(0))
    back = transform.undo(moved.boxes, HEIGHT, WIDTH)
    np.testing.assert_allclose(back, [o[:4] for o in OBJECTS[0]], atol=1e-4)
    assert transform.undo([[0, 0, 64, 64]], HEIGHT, WIDTH).tolist() == [[0, 0, WIDTH, HEIGHT]]


def test_transforms_without_a_rule_for_boxes(voc):
    source = open_boxes(voc)
    for transform in (RandomResizedCrop(8), Compose([RandomFlip(), RandomResizedCrop(8)])):
        with pytest.raises(
            ValueError, match="RandomResizedCrop does not move boxes with the pixels"
        ):
            Loader(source, 2, transform=transform).batch(0)
    with pytest.raises(ValueError, match="batch_transform would leave boxes where they are"):
        Loader(source, 2, batch_transform=[lambda batch, seed: batch])
    with pytest.raises(ValueError, match="scale must be two rising positive numbers"):
        ScaleJitter((8, 8), (2, 1))
    with pytest.raises(ValueError, match=r"size must be \(height, width\)"):
        ResizePad((8, 0))


# --- batches --------------------------------------------------------------------------------------


def test_batches_follow_from_seed_epoch_and_example(voc):
    source = open_boxes(voc)
    transform = Compose([ScaleJitter((40, 40), (0.5, 2)), RandomFlip(), Photometric()])

    def loader(batch_size, **options):
        return Loader(
            source,
            batch_size,
            transform=transform,
            normalize=Normalize(),
            seed=3,
            epochs=None,
            **options,
        )

    def same(one, two):
        np.testing.assert_array_equal(one[0], two[0])
        for name in ("boxes", "labels"):
            np.testing.assert_array_equal(one[1][name], two[1][name])

    images, targets = loader(4).batch(0)
    assert (images.shape, images.dtype) == ((4, 40, 40, 3), np.float32)
    assert (targets["boxes"].shape, targets["boxes"].dtype) == ((4, 2, 4), np.float32)
    assert (targets["labels"].shape, targets["labels"].dtype) == ((4, 2), np.int32)
    assert (targets["boxes"][targets["labels"] == -1] == 0).all()
    for step, batch in zip(range(5, 8), loader(2, start_step=5), strict=False):
        same(loader(2).batch(step), batch)
    halves = [loader(4, shard=(number, 2)).batch(0) for number in (0, 1)]
    joined = {name: np.concatenate([half[1][name] for half in halves]) for name in targets}
    same((images, targets), (np.concatenate([half[0] for half in halves]), joined))
    other = loader(4).batch(1)[1]["boxes"]
    assert not np.array_equal(np.sort(other, 0), np.sort(targets["boxes"], 0))
    # A part of a source has batches of the same shape.
    assert Loader(take_subset(source, count=1), 1).batch(0)[1]["boxes"].shape == (1, 2, 4)


def test_boxes_in_memory_through_the_feed():
    images = [picture(row) for row in OBJECTS]
    labels = np.full((4, 3), -1)
    boxes = np.zeros((4, 3, 4))
    for number, row in enumerate(OBJECTS):
        for place, (*corners, label) in enumerate(row):
            boxes[number, place], labels[number, place] = corners, label
    targets = {"boxes": boxes, "labels": labels}
    source = BoxedPictures(np.stack(images), targets, 2)
    assert rows(source) == OBJECTS
    assert source.fingerprint() != BoxedPictures(images[::-1], targets, 2).fingerprint()

    seen = []
    inputs = Inputs(
        (24, 24, 3),
        check_labels=seen.append,
        check_ready=None,
        transform=ResizePad((24, 24)),
        normalize=Normalize(),
    )
    ours = make_feed(inputs, source, batch_size=2, labelled=True)[0]
    assert ours[0].shape == (2, 24, 24, 3)
    assert ours[1]["boxes"].shape == (2, 2, 4)
    stream = make_feed(inputs, [(np.stack(images)[:, :, :24], targets)], labelled=True)[0]
    assert stream[1]["boxes"].shape == (4, 3, 4)
    assert seen[0]["labels"].shape == (4, 3)


def test_targets_that_do_not_fit():
    image = picture([])
    one = {"boxes": [[1, 2, 3, 4]], "labels": [0]}

    def refused(targets, images=(image,)):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            BoxedPictures(list(images), targets, 2)
        return str(error.value)

    assert "1 images and targets of 2" in refused([one, one])
    assert 'targets need "boxes" and "labels"' in refused({"boxes": []})
    assert "image 0 has the label 2, which is no class: 2 classes" in refused(
        [one | {"labels": [2]}]
    )
    assert "image 0 has 1 boxes and labels of (2,)" in refused([one | {"labels": [0, 1]}])
    assert "give integers" in refused([one | {"labels": [0.5]}])
    assert "which is empty" in refused([one | {"boxes": [[3, 2, 1, 4]]}])
    assert "has no objects in its 1 images" in refused([{"boxes": [], "labels": []}])
