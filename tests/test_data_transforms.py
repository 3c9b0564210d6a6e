"""Transforms: hand-worked boxes, agreement of the two paths, and the numbers they draw."""

import math

import numpy as np
import pytest
from PIL import Image

from mimzoo.data.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from mimzoo.data.random import uniform
from mimzoo.data.transform import Compose
from mimzoo.data.transforms import RandomCropPad, RandomFlip, RandomResizedCrop, ResizeCrop


def pictures(count=6, height=28, width=28):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def draws(transform, count=6, seed=0):
    return uniform(seed, 0, np.arange(count), transform.draws, stream="augment")


@pytest.mark.parametrize(
    "transform",
    [
        RandomFlip(),
        RandomCropPad(4),
        RandomCropPad(3, mode="reflect"),
        RandomResizedCrop(20),
        ResizeCrop(16),
        ResizeCrop(24, crop_fraction=24 / 28),  # cut only
        Compose([RandomResizedCrop(24), RandomFlip(), RandomCropPad(2)]),
    ],
    ids=repr,
)
def test_batch_equals_one_by_one(transform):
    images, u = pictures(), draws(transform)
    single = np.stack([transform(image, row) for image, row in zip(images, u, strict=True)])
    result = transform.batch(images, u)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, single)
    # One number more or fewer would shift what the next transform gets.
    assert u.shape[1] == transform.draws
    # What goes in stays as it was.
    np.testing.assert_array_equal(images, pictures())


def test_repr_records_and_rebuilds():
    transform = Compose([RandomResizedCrop(192, scale=(0.67, 1.0)), RandomFlip(0.3)])
    assert "RandomResizedCrop(size=192, scale=(0.67, 1.0)" in repr(transform)
    assert eval(repr(transform)) == transform


def numbers(*tries, top=0.0, left=0.0):
    u = np.zeros(22, np.float32)
    for number, (area, aspect) in enumerate(tries):
        u[2 * number : 2 * number + 2] = area, aspect
    u[-2:] = top, left
    return u


def test_random_resized_crop_boxes():
    crop = RandomResizedCrop(8)
    # Least area, ratio 1 (the middle of log 3/4 .. log 4/3): side sqrt(0.2) of the whole.
    assert crop.box(100, 100, numbers((0, 0.5))) == (0, 0, 45, 45)
    almost = 1 - 2.0**-24
    assert crop.box(100, 100, numbers((0, 0.5), top=almost, left=0.5)) == (55, 28, 45, 45)
    # Ratio 4/3: width sqrt(2000 * 4 / 3) = 52, height sqrt(2000 * 3 / 4) = 39.
    assert crop.box(100, 100, numbers((0, almost)))[2:] == (39, 52)
    # The first try is wider than the image, the second fits.
    assert crop.box(100, 100, numbers((almost, almost), (0, 0)))[2:] == (52, 39)


def test_random_resized_crop_falls_back_to_the_centre():
    crop = RandomResizedCrop(8, scale=(0.9, 1.0))
    u = numbers(*[(0.5, 0.5)] * 10)
    assert crop.box(20, 200, u) == (0, (200 - 27) // 2, 20, 27)  # 4/3 wide at most
    assert crop.box(200, 20, u) == ((200 - 27) // 2, 0, 27, 20)
    whole = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.5, 0.9))
    assert whole.box(100, 80, numbers(*[(0, 0)] * 10)) == (0, 0, 100, 80)


def test_random_resized_crop_statistics():
    # Small enough that the first try always fits.
    crop = RandomResizedCrop(8, scale=(0.2, 0.5))
    boxes = np.array([crop.box(400, 400, u) for u in draws(crop, 4000)])
    top, left, height, width = boxes.T
    share = height * width / 400**2
    assert abs(share.mean() - 0.35) < 0.005
    assert abs(np.log(width / height).mean()) < 0.01
    np.testing.assert_allclose([share.min(), share.max()], [0.2, 0.5], atol=0.005)
    np.testing.assert_allclose(np.percentile(width / height, [0, 100]), [3 / 4, 4 / 3], atol=0.01)
    for start, room in ((top, 400 - height), (left, 400 - width)):
        assert abs((start / room).mean() - 0.5) < 0.02
        assert (start >= 0).all()
        assert (start <= room).all()


def test_random_resized_crop_resizes_what_pillow_would():
    image = pictures(1, 60, 50)[0]
    crop = RandomResizedCrop(16)
    u = draws(crop, 1)[0]
    top, left, height, width = crop.box(60, 50, u)
    picture = Image.fromarray(image).crop((left, top, left + width, top + height))
    expected = np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(crop(image, u), expected)


def test_min_size_spares_even_the_smallest_crop():
    crop = RandomResizedCrop(224)
    side = crop.min_size
    smallest = math.sqrt(0.2 * side * side * 0.75)
    assert 224 <= smallest < 226
    assert Compose([crop, RandomFlip()]).min_size == side
    assert ResizeCrop(224).min_size is None
    assert Compose([]).min_size is None


def test_flip():
    image = pictures(1)[0]
    np.testing.assert_array_equal(RandomFlip()(image, np.float32([0.49])), image[:, ::-1])
    np.testing.assert_array_equal(RandomFlip()(image, np.float32([0.5])), image)
    flipped = draws(RandomFlip(), 10000)[:, 0] < 0.5
    assert abs(flipped.mean() - 0.5) < 0.02


def test_crop_pad():
    image = pictures(1)[0]
    crop = RandomCropPad(4)
    corner = crop(image, np.float32([0, 0]))
    assert (corner[:4] == 0).all()
    assert (corner[:, :4] == 0).all()
    np.testing.assert_array_equal(corner[4:, 4:], image[:24, :24])
    np.testing.assert_array_equal(crop(image, np.float32([0.5, 0.5])), image)
    reflected = RandomCropPad(4, "reflect")(image, np.float32([0.5, 0]))
    np.testing.assert_array_equal(reflected[:, :4], image[:, 4:0:-1])


@pytest.mark.parametrize(
    ("shape", "size", "resized"),
    [((300, 400), 224, (256, 341)), ((400, 300), 224, (341, 256)), ((32, 32), 28, (32, 32))],
)
def test_resize_crop(shape, size, resized):
    image = pictures(1, *shape)[0]
    picture = Image.fromarray(image).resize(resized[::-1], Image.Resampling.BICUBIC)
    # torchvision's centre: half up or down to the even neighbour.
    top, left = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
    expected = np.asarray(picture)[top : top + size, left : left + size]
    np.testing.assert_array_equal(ResizeCrop(size)(image), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize(dtype):
    images = pictures(3, 5, 7)
    result = Normalize()(images.astype(dtype))
    expected = (images / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-6)
    np.testing.assert_array_equal(Normalize()(images[0].astype(dtype)), result[0])


def test_bad_arguments():
    for make in (
        lambda: RandomResizedCrop(0),
        lambda: RandomResizedCrop(8, scale=(0.5, 0.2)),
        lambda: RandomResizedCrop(8, ratio=(2, 1)),
        lambda: RandomResizedCrop(8, interpolation="cubic"),
        lambda: RandomFlip(1.5),
        lambda: RandomCropPad(0),
        lambda: RandomCropPad(4, "wrap"),
        lambda: RandomCropPad(9, "reflect")(pictures(1, 8, 8)[0], np.zeros(2)),
        lambda: ResizeCrop(8, crop_fraction=1.2),
        lambda: ResizeCrop(8.5),
        lambda: Normalize((0.5,), (0.5,)),
        lambda: Normalize(std=(0.0, 1.0, 1.0)),
    ):
        with pytest.raises(ValueError, match=r"must|cannot"):
            make()
