"""The loader: order, exact resume, corrupt files, and `fit` on the backend at hand."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mimzoo.data import (
    ArraySource,
    Compose,
    Loader,
    Normalize,
    RandomCropPad,
    RandomFlip,
    RandomResizedCrop,
    ResizeCrop,
    open_source,
    take_subset,
)
from mimzoo.data.random import permutation
from mimzoo.data.reader import TooManyCorruptError


def numbered(count=23):
    """Images whose every pixel is the example's number."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 8, 8))
    return ArraySource(np.array(images), np.arange(count) % 3)


def ids(images):
    return images[:, 0, 0, 0].astype(int).tolist()


def draw(index, epoch):
    """Masks that say what they were drawn from."""
    return {"masks": np.stack([index, np.full(len(index), epoch)], axis=1).astype(np.uint8)}


def write_images(folder, count=12, broken=()):
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (20, 16), (i, 0, 0)).save(folder / f"{i:02}.png")
    for i in broken:
        (folder / f"{i:02}.png").write_bytes(b"junk")
    return open_source(folder, "all")


# === Order ===


@pytest.mark.parametrize("threads", [0, 3])
def test_each_epoch_visits_everything_in_its_own_order(threads):
    loader = Loader(numbered(), 5, seed=7, epochs=2, draw=draw, num_threads=threads)
    batches = list(loader)
    assert len(loader) == len(batches) == 8
    assert loader.steps_per_epoch == 4
    for epoch in (0, 1):
        parts = batches[4 * epoch : 4 * epoch + 4]
        seen = ids(np.concatenate([batch["images"] for batch in parts]))
        assert seen == permutation(7, epoch, 23)[:20].tolist()
        masks = np.concatenate([batch["masks"] for batch in parts])
        assert masks[:, 0].tolist() == seen
        assert (masks[:, 1] == epoch).all()
    assert batches[0]["images"].dtype == np.float32
    assert batches[0]["masks"].dtype == np.uint8


def test_without_shuffle_each_epoch_is_in_order_and_draws_anew():
    loader = Loader(numbered(), 5, shuffle=False, epochs=2, drop_remainder=False, draw=draw)
    batches = list(loader)
    assert [len(batch["images"]) for batch in batches] == [5, 5, 5, 5, 3] * 2
    assert ids(np.concatenate([batch["images"] for batch in batches])) == [*range(23)] * 2
    epochs = np.concatenate([batch["masks"] for batch in batches])[:, 1]
    assert epochs.tolist() == [0] * 23 + [1] * 23


def test_augmentation_follows_from_example_and_epoch_alone():
    rng = np.random.default_rng(0)
    source = ArraySource(rng.integers(0, 256, (12, 16, 16, 3), np.uint8))
    transform = Compose([RandomResizedCrop(8), RandomFlip()])

    def augmented(batch_size, epoch):
        loader = Loader(source, batch_size, transform=transform, seed=1, epochs=None, num_threads=0)
        first = epoch * loader.steps_per_epoch
        order = permutation(1, epoch, 12)
        images = np.concatenate([loader.batch(first + k) for k in range(loader.steps_per_epoch)])
        return images[np.argsort(order)]

    np.testing.assert_array_equal(augmented(4, 0), augmented(6, 0))
    assert not np.array_equal(augmented(4, 0), augmented(4, 1))


def test_folder_and_array_give_the_same(tmp_path):
    source = write_images(tmp_path / "a")
    array = ArraySource(np.stack([source[i]["image"] for i in range(12)]))
    options = {"transform": Compose([RandomCropPad(2), RandomFlip()]), "normalize": Normalize()}
    for one, other in zip(Loader(source, 4, **options), Loader(array, 4, **options), strict=True):
        np.testing.assert_array_equal(one, other)


def test_resume_is_exact():
    options = {"transform": Compose([RandomCropPad(2), RandomFlip()]), "seed": 3, "epochs": None}
    whole = Loader(numbered(), 5, labels=True, **options)
    stream = iter(whole)
    seen = [next(stream) for _ in range(11)]
    again = Loader(numbered(), 5, labels=True, **options)
    again.resume(whole.state(6))
    assert again.position(6) == (1, 2)
    for (images, labels), (images_2, labels_2) in zip(seen[6:], again, strict=False):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(labels, labels_2)
    started = Loader(numbered(), 5, labels=True, start_step=10, **options)
    np.testing.assert_array_equal(next(iter(started))[0], seen[10][0])
    with pytest.raises(ValueError, match="batch_size was 5 and is 4"):
        Loader(numbered(), 4, **options).resume(whole.state(6))
    with pytest.raises(TypeError, match="steps_per_epoch"):
        len(whole)
    assert len(Loader(numbered(), 5, epochs=3, start_step=10)) == 2


# === What comes out ===


def test_kinds_of_batches():
    bare = next(iter(Loader(numbered(), 5, shuffle=False)))
    assert ids(bare) == [0, 1, 2, 3, 4]
    images, labels = next(iter(Loader(numbered(), 5, shuffle=False, labels=True)))
    assert (images.shape, labels.tolist()) == ((5, 8, 8, 3), [0, 1, 2, 0, 1])
    assert labels.dtype == np.int32
    normalized = next(iter(Loader(numbered(), 5, shuffle=False, normalize=Normalize())))
    np.testing.assert_array_equal(normalized, Normalize()(bare))


def test_padded_remainder_weighs_nothing():
    loader = Loader(
        numbered(), 5, shuffle=False, drop_remainder=False, pad_remainder=True, labels=True
    )
    images, labels, weights = map(np.concatenate, zip(*loader, strict=True))
    assert ids(images) == [*range(23), 21, 22]
    assert labels[-3:].tolist() == [22 % 3, 21 % 3, 22 % 3]
    assert (weights[:23] == weights[0]).all()
    assert (weights[23:] == 0).all()
    assert weights.mean() == pytest.approx(1)


def test_finish_gets_floats_and_a_seed_of_the_step():
    seeds = []

    def finish(batch, step_seed):
        assert batch["images"].dtype == np.float32
        seeds.append(step_seed)
        return {
            "images": batch["images"] + 1,
            "labels": np.eye(3, dtype="float32")[batch["labels"]],
        }

    loader = Loader(
        numbered(), 5, shuffle=False, labels=True, batch_transform=[finish], num_threads=0
    )
    images, labels = loader.batch(1)
    assert ids(images) == [6, 7, 8, 9, 10]
    assert labels.shape == (5, 3)
    loader.batch(1)
    loader.batch(2)
    assert seeds[0] == seeds[1] != seeds[2]
    assert 0 <= min(seeds) <= max(seeds) < 2**31


@pytest.mark.parametrize(
    ("batch", "sizes"), [(64, [64]), (67, [33, 34]), (128, [64, 64]), (130, [43, 43, 44])]
)
def test_a_large_batch_is_mixed_in_equal_parts(batch, sizes):
    seen = []

    def look(part, seed):
        seen.append(len(part["images"]))
        return part

    source = numbered(batch)
    loader = Loader(source, batch, shuffle=False, batch_transform=[look], num_threads=0)
    assert ids(loader.batch(0)) == [*range(batch)]
    assert seen == sizes


def test_images_of_many_sizes_need_a_transform(tmp_path):
    source = write_images(tmp_path / "a")
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / "01.png")
    loader = Loader(source, 4, shuffle=False)
    with pytest.raises(ValueError, match=r"00\.png is \(16, 20\), 01\.png is \(9, 9\).*ResizeCrop"):
        next(iter(loader))
    sized = Loader(source, 4, shuffle=False, transform=ResizeCrop(8))
    assert next(iter(sized)).shape == (4, 8, 8, 3)


def test_bad_arguments():
    for options, message in (
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 24}, "fewer than batch_size 24"),
        ({"epochs": 0}, "epochs"),
        ({"start_step": 5}, "beyond the end"),
        ({"start_step": -1}, "negative"),
        ({"max_corrupt": 2}, "max_corrupt"),
        ({"draw": draw, "labels": True}, "not both"),
        ({"pad_remainder": True, "labels": True}, "drop_remainder=False"),
    ):
        with pytest.raises(ValueError, match=message):
            Loader(numbered(), **{"batch_size": 5, **options})
    with pytest.raises(ValueError, match="no labels"):
        Loader(ArraySource(np.zeros((4, 8, 8), np.uint8)), 2, labels=True)
    with pytest.raises(ValueError, match="no examples"):
        Loader(ArraySource(np.zeros((0, 8, 8), np.uint8)), 2)


@pytest.mark.parametrize(("side", "batch", "threads"), [(8, 4, 0), (32, 128, 2), (64, 64, 4)])
def test_threads_follow_from_the_pixels_of_a_batch_in_memory(monkeypatch, side, batch, threads):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    images = np.zeros((batch, side, side), np.uint8)
    assert Loader(ArraySource(images), batch).num_threads == threads


# === Corrupt files ===


@pytest.mark.parametrize("threads", [0, 4])
def test_corrupt_files_are_named_once_and_replaced_by_the_next(tmp_path, caplog, threads):
    source = write_images(tmp_path / "a", broken=(3, 4, 11))
    loader = Loader(source, 4, shuffle=False, epochs=3, num_threads=threads)
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        seen = ids(np.concatenate(list(loader)))
    assert seen == [0, 1, 2, 5, 5, 5, 6, 7, 8, 9, 10, 0] * 3
    names = sorted(message.split("/")[-1].split(":")[0] for message in caplog.messages)
    assert names == ["03.png", "04.png", "11.png"]
    assert sorted(loader.corrupt) == [3, 4, 11]
    assert "not an image" in loader.corrupt[3]


def test_crops_from_files_are_those_of_decoded_images(tmp_path):
    """The box is known before decoding; the pixels are the same."""
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 256, (40, 50 + i, 3), np.uint8)
        image = Image.fromarray(pixels).convert("L" if i == 2 else "RGB")
        image.save(tmp_path / f"{i}.{'jpg' if i % 2 else 'png'}")
    source = open_source(tmp_path, "all")
    transform = Compose([RandomResizedCrop(32), RandomFlip()])

    class Plain:
        draws = transform.draws

        def __call__(self, image, u):
            return transform(image, u)

    for one, other in zip(
        Loader(source, 3, transform=transform),
        Loader(take_subset(source, share=1.0), 3, transform=Plain()),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_replacement_brings_its_own_label(tmp_path):
    for name, value in (("a/0", 1), ("a/1", 2), ("b/0", 3), ("b/1", 4)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    images, labels = next(iter(Loader(open_source(tmp_path, "all"), 4, shuffle=False, labels=True)))
    assert ids(images) == [1, 3, 3, 4]
    assert labels.tolist() == [0, 1, 1, 1]


def test_too_many_corrupt_files_stop_with_a_count_and_names(tmp_path):
    source = write_images(tmp_path / "a", count=20, broken=range(0, 20, 3))
    loader = Loader(source, 10, shuffle=False, num_threads=0)
    with pytest.raises(
        TooManyCorruptError, match=r"5 of the \d+ images .*00\.png.*03\.png.*06\.png"
    ):
        list(loader)
    assert len(list(Loader(source, 10, shuffle=False, max_corrupt=0.5))) == 2


@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("count", [3, 12])
def test_a_folder_where_nothing_can_be_read(tmp_path, count, threads):
    source = write_images(tmp_path / "a", count=count, broken=range(count))
    with pytest.raises(TooManyCorruptError) as caught:
        next(iter(Loader(source, 2, num_threads=threads, max_corrupt=1.0)))
    message = str(caught.value)
    assert f"none of the {count} images in a can be read" in message
    assert "not an image" in message
    assert "\n" not in message


# === Subsets ===


def test_subsets_are_balanced_nested_and_reproducible():
    source = numbered(90)
    small, large = take_subset(source, share=0.1), take_subset(source, share=0.3)
    assert np.bincount(small.labels).tolist() == [3, 3, 3]
    assert np.bincount(take_subset(source, count=10).labels).tolist() == [4, 3, 3]
    assert set(ids(small.images)) < set(ids(large.images))
    assert ids(take_subset(source, share=0.1).images) == ids(small.images)
    assert ids(take_subset(source, share=0.1, seed=1).images) != ids(small.images)
    with pytest.raises(ValueError, match="either share or count"):
        take_subset(source)
    with pytest.raises(ValueError, match="share must lie"):
        take_subset(source, share=0)
    with pytest.raises(ValueError, match=r"1\.\.90"):
        take_subset(source, count=91)


def test_subset_of_files_keeps_names(tmp_path):
    source = write_images(tmp_path / "a")
    subset = take_subset(source, count=4)
    assert len(subset) == 4
    for i in range(4):
        example = subset[i]
        assert example["id"] == i
        assert subset.example_name(i) == f"{example['image'][0, 0, 0]:02}.png"


def test_every_exported_name_is_there():
    import mimzoo.data

    for name in mimzoo.data.__all__:
        assert getattr(mimzoo.data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Laoder'"):
        _ = mimzoo.data.Laoder


def test_import_is_light():
    code = (
        "import sys, types, pathlib; p = types.ModuleType('mimzoo'); "
        "p.__path__ = [str(pathlib.Path('mimzoo').resolve())]; sys.modules['mimzoo'] = p; "
        "import mimzoo.data, mimzoo.data.loader, mimzoo.data.sources, mimzoo.data.transforms; "
        "heavy = {'PIL', 'grain', 'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules); "
        "assert not heavy, heavy; mimzoo.data.open_source; assert 'Loader' in dir(mimzoo.data)"
    )
    root = __file__.rsplit("/", 2)[0]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
