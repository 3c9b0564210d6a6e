import os
import pickle
import threading
import time

import keras
import numpy as np
import pytest

from mimzoo.data.augment import KerasAugment, OneOf, finetune_augment, rand_augment

CLASSES = 3


def batch(count=8, size=24, dtype="uint8"):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3)).astype(dtype)
    return {"images": images, "labels": np.arange(count) % CLASSES}


def constant_batch(count=8, size=32):
    """Image i is of the one value 10 * i and of class i."""
    images = np.ones((count, size, size, 3), "float32") * 10 * np.arange(count)[:, None, None, None]
    return {"images": images, "labels": np.arange(count)}


def assert_same(a, b):
    np.testing.assert_array_equal(a["images"], b["images"])
    np.testing.assert_array_equal(a["labels"], b["labels"])


def check_mixup(out):
    """A constant image's value tells sum_c share_c * 10 * c, whatever the partner."""
    count = len(out["images"])
    expected = out["labels"] @ (10.0 * np.arange(count))
    np.testing.assert_allclose(out["images"][:, 0, 0, 0], expected, atol=1e-3)
    assert out["images"].std(axis=(1, 2, 3)).max() < 1e-3


def check_cutmix(out, atol):
    count = len(out["images"])
    for image, shares in zip(out["images"], out["labels"], strict=True):
        found = [np.mean(np.isclose(image, 10.0 * c, atol=1e-3)) for c in range(count)]
        np.testing.assert_allclose(found, shares, atol=atol)


def test_mixup_labels_follow_the_images():
    augment = KerasAugment([keras.layers.MixUp(0.8)], num_classes=8)
    out = augment(constant_batch(), seed=1)
    check_mixup(out)
    assert (out["labels"].max(axis=1) < 0.999).any()
    np.testing.assert_allclose(out["labels"].sum(axis=1), 1.0, atol=1e-6)


def test_cutmix_labels_follow_the_images():
    augment = KerasAugment([keras.layers.CutMix((1.0, 1.0))], num_classes=8)
    out = augment(constant_batch(), seed=1)
    # The box ends between pixels: up to one row and one column of 32.
    check_cutmix(out, atol=2.5 / 32)
    assert (out["labels"].max(axis=1) < 0.999).any()


def test_same_seed_same_batch_whatever_came_before():
    augment = finetune_augment(CLASSES)
    first = augment(batch(), seed=3)
    other = augment(batch(), seed=4)
    assert np.abs(first["images"] - other["images"]).max() > 1
    assert_same(augment(batch(), seed=3), first)
    assert_same(finetune_augment(CLASSES)(batch(), seed=3), first)


def test_threads_and_pickled_copies_agree(monkeypatch):
    if keras.backend.backend() == "torch":
        # Lets the other thread in where it would do harm: between seeding and drawing.
        import torch

        seed_all = torch.manual_seed
        monkeypatch.setattr(
            torch, "manual_seed", lambda seed: (seed_all(seed), time.sleep(0.01))[0]
        )
    augment = KerasAugment(
        [keras.layers.RandomRotation(0.1), keras.layers.MixUp(0.8)], num_classes=CLASSES
    )
    want = {seed: augment(batch(), seed) for seed in range(6)}
    copy = pickle.loads(pickle.dumps(augment))
    got = {}

    def work(first):
        for seed in range(first, 6, 2):
            got[seed] = augment(batch(), seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, out in want.items():
        assert_same(got[seed], out)
    assert_same(copy(batch(), 5), want[5])


def test_finetune_augment_keeps_the_range_and_gives_numpy():
    source = batch()
    before = source["images"].copy()
    out = finetune_augment(CLASSES)({**source, "extra": "kept"}, seed=7)
    assert type(out["images"]) is type(out["labels"]) is np.ndarray
    assert out["images"].shape == (8, 24, 24, 3)
    assert out["images"].dtype == out["labels"].dtype == np.float32
    assert out["images"].min() >= -1e-2
    assert out["images"].max() <= 255.01
    assert np.isfinite(out["images"]).all()
    np.testing.assert_allclose(out["labels"].sum(axis=1), 1.0, atol=1e-5)
    assert out["extra"] == "kept"
    np.testing.assert_array_equal(source["images"], before)
    assert source["labels"].ndim == 1


def test_batch_is_float32_under_a_mixed_policy():
    want = finetune_augment(CLASSES)(batch(), seed=2)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert_same(finetune_augment(CLASSES)(batch(), seed=2), want)
    finally:
        keras.config.set_dtype_policy("float32")


def test_erasing_share_and_noise():
    augment = finetune_augment(
        CLASSES, flip=False, rand_augment=False, random_erasing=0.5, mixup=0, cutmix=0
    )
    images = np.zeros((64, 16, 16, 3), "uint8")
    out = augment({"images": images, "labels": np.zeros(64, int)}, seed=0)["images"]
    touched = np.abs(out).max(axis=(1, 2, 3)) > 1
    assert 0.3 < touched.mean() < 0.7
    noise = out[np.abs(out).max(axis=-1) > 1]
    low = 255 * (np.array([0.485, 0.456, 0.406]) - np.array([0.229, 0.224, 0.225]))
    assert (noise >= low - 0.01).all()
    np.testing.assert_allclose(noise.mean(axis=0), [123.7, 116.3, 103.5], atol=6)


def test_switch_chooses_for_the_batch():
    augment = finetune_augment(
        8, flip=False, rand_augment=False, random_erasing=0, switch_prob=0.25
    )
    mixed = 0
    for seed in range(40):
        out = augment(constant_batch(size=8), seed)
        mixed += bool(out["images"].std(axis=(1, 2, 3)).max() < 1e-3)
    assert 22 <= mixed <= 38  # 30 expected


def test_each_operation_keeps_shape_and_range():
    for layer in rand_augment()[0].layers:
        out = KerasAugment([layer])(batch(4), seed=1)
        assert out["images"].shape == (4, 24, 24, 3), layer.name
        assert out["images"].min() >= -1e-2, layer.name
        assert out["images"].max() <= 255.01, layer.name
        assert np.isfinite(out["images"]).all(), layer.name
        np.testing.assert_array_equal(out["labels"], batch(4)["labels"])


def test_rate_and_groups():
    invert = [keras.layers.RandomInvert(factor=(1.0, 1.0)), keras.layers.Rescaling(1.0)]
    images = np.zeros((64, 4, 4, 3), "uint8")
    out = KerasAugment([OneOf(invert[:1], rate=0.25)])({"images": images}, 0)["images"]
    changed = out.max(axis=(1, 2, 3)) == 255
    assert 6 <= changed.sum() <= 26
    out = KerasAugment([OneOf(invert, group_size=8)])({"images": images}, 0)["images"]
    groups = (out.max(axis=(1, 2, 3)) == 255).reshape(8, 8)
    assert (groups.all(axis=1) | ~groups.any(axis=1)).all()
    assert 0 < groups.sum() < 64


def test_uint8_is_scaled_to_the_value_range():
    augment = KerasAugment([keras.layers.RandomBrightness(0.0, value_range=(0, 1))], None, (0, 1))
    out = augment(batch(), 0)
    np.testing.assert_allclose(out["images"], batch()["images"] / 255, atol=1e-6)


def test_one_hot_labels_are_taken():
    augment = KerasAugment([keras.layers.MixUp(0.8)])
    onehot = {**batch(), "labels": np.eye(CLASSES)[batch()["labels"]]}
    assert_same(augment(onehot, 1), KerasAugment([keras.layers.MixUp(0.8)], CLASSES)(batch(), 1))


def test_keras_rand_augment_stands_in():
    out = KerasAugment([keras.layers.RandAugment(factor=0.2)])(batch(2), 1)
    assert out["images"].min() >= -1e-2
    assert out["images"].max() <= 255.01


def test_loader_takes_it():
    from mimzoo.data import ArraySource, Loader

    source = ArraySource(batch()["images"], labels=batch()["labels"])
    loader = Loader(
        source,
        4,
        labels=True,
        epochs=1,
        batch_transform=[finetune_augment(CLASSES, rand_augment=False)],
    )
    shapes = [(x.shape, np.asarray(y).shape) for x, y in loader.dataset()]
    assert shapes == [((4, 24, 24, 3), (4, CLASSES))] * 2


def test_errors_say_what_to_do():
    mix = keras.layers.MixUp(0.8)
    with pytest.raises(ValueError, match="needs num_classes"):
        KerasAugment([mix])(batch(), 0)
    with pytest.raises(ValueError, match=r"labels must lie in 0..1"):
        KerasAugment([mix], 2)(batch(), 0)
    with pytest.raises(ValueError, match=r"\(B, 4\) shares"):
        KerasAugment([mix], 4)({**batch(), "labels": np.eye(3)[[0] * 8]}, 0)
    with pytest.raises(ValueError, match="augment before normalising"):
        KerasAugment([])({"images": np.full((1, 4, 4, 3), -2.0)}, 0)
    with pytest.raises(ValueError, match=r"\(B, H, W, 3\)"):
        KerasAugment([])({"images": np.zeros((4, 4, 3))}, 0)
    with pytest.raises(ValueError, match="must be Keras or KerasCV layers"):
        KerasAugment([np.flip])
    with pytest.raises(ValueError, match="RandomShear cannot be made again"):
        KerasAugment([keras.layers.RandomShear(0.2)])
    with pytest.raises(ValueError, match="adding up to 1"):
        OneOf([mix], [0.5])
    with pytest.raises(ValueError, match="mixup must lie"):
        finetune_augment(3, mixup=2.0)
    with pytest.raises(ValueError, match="magnitude"):
        rand_augment(magnitude=0)


# === KerasCV ===


@pytest.fixture(scope="module")
def keras_cv():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("keras_cv")


def test_keras_cv_layers_stand_in(keras_cv):
    augment = KerasAugment(
        [
            keras_cv.layers.RandomFlip("horizontal"),
            keras_cv.layers.RandAugment(value_range=(0, 255), magnitude=0.3),
            keras.layers.RandomInvert(),
            keras_cv.layers.MixUp(alpha=0.8),
        ],
        num_classes=CLASSES,
    )
    first = augment(batch(4), seed=1)
    assert type(first["images"]) is type(first["labels"]) is np.ndarray
    assert first["images"].shape == (4, 24, 24, 3)
    np.testing.assert_allclose(first["labels"].sum(axis=1), 1.0, atol=1e-5)
    assert np.abs(first["images"] - augment(batch(4), seed=2)["images"]).max() > 1
    assert_same(augment(batch(4), seed=1), first)


def test_keras_cv_mixing_labels_follow_the_images(keras_cv):
    check_mixup(KerasAugment([keras_cv.layers.MixUp(alpha=0.8)], 8)(constant_batch(), 1))
    out = KerasAugment([keras_cv.layers.CutMix(alpha=1.0)], 8)(constant_batch(), 1)
    # The labels count what of the box lies beyond the image: the own class has at least its share.
    for own, (image, shares) in enumerate(zip(out["images"], out["labels"], strict=True)):
        found = np.array([np.mean(np.isclose(image, 10.0 * c)) for c in range(8)])
        assert found[own] >= shares[own] - 2.5 / 32
        assert ((found > 0) <= (shares > 0)).all()
