"""Faults of what users hand to `fit`, `evaluate` and `predict`: each test is of a kind."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

from mimzoo.data import ArraySource, Loader
from mimzoo.data.keras_augment import KerasAugment
from mimzoo.models import ImageClassifier, SwinV2Backbone, ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder, MixMIM, SimMIM
from mimzoo.tasks.preprocessing import ImageConverter

SHAPE = (16, 16, 3)


def classifier(num_classes: int = 4, **options) -> ImageClassifier:
    backbone = ViTBackbone(SHAPE, 4, 32, 1, 2, final_norm=False)
    options.setdefault("head_init_std", 0.02)
    return ImageClassifier.for_backbone(ViTBackbone)(backbone, num_classes, **options)


def mae() -> MAE:
    return MAE(ViTBackbone(SHAPE, 4, 32, 1, 2), decoder=MAEDecoder(16, 1, 2))


@pytest.fixture
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """Sixty-four images of four classes, which differ in brightness, sorted by class."""
    labels = np.arange(64) // 16
    noise = np.random.default_rng(0).integers(0, 50, (64, *SHAPE))
    return (noise + 60 * labels[:, None, None, None]).astype("uint8"), labels


def values(model: keras.Model, *data, **options) -> list[float]:
    return keras.tree.flatten(model.evaluate(*data, verbose=0, **options))


# --- tasks beside each other ----------------------------------------------------------------------


def test_tasks_of_both_kinds_live_together(labelled, tmp_path):
    images, labels = labelled
    first, task = classifier(), mae()
    before = first.predict(images, verbose=0)
    second, other = classifier(), mae()
    for model in (first, second):
        assert isinstance(model, keras.Model)
        model.fit(images, labels, verbose=0)
    first.set_weights(second.get_weights())
    for mim in (task, other):
        mim.fit(images, verbose=0)
    np.testing.assert_array_equal(
        first.predict(images, verbose=0), second.predict(images, verbose=0)
    )
    assert not np.array_equal(first.predict(images, verbose=0), before)
    task.save_to_preset(tmp_path / "mae")
    first.save(tmp_path / "first.keras")
    MAE.from_preset(str(tmp_path / "mae"))
    loaded = keras.saving.load_model(tmp_path / "first.keras")
    ImageClassifier.from_preset(str(tmp_path / "mae"), num_classes=2).predict(images, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), first.predict(images, verbose=0), atol=1e-5
    )


# --- classifiers ----------------------------------------------------------------------------------


def test_sorted_images_train_as_shuffled_ones(labelled):
    images, labels = labelled
    accuracies = []
    for order in (np.arange(64), np.random.default_rng(1).permutation(64)):
        keras.utils.set_random_seed(0)
        model = classifier()
        model.compile(keras.optimizers.Adam(3e-3))
        model.fit(images[order], labels[order], batch_size=8, epochs=6, verbose=0)
        accuracies.append(values(model, images, labels)[1])
    assert min(accuracies) > 0.8, accuracies


def test_classifiers_take_every_input(labelled, tmp_path):
    import tensorflow as tf
    import torch

    images, labels = labelled

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 8

        def __getitem__(self, step):
            rows = slice(8 * step, 8 * step + 8)
            return images[rows], labels[rows]

    for label in range(4):
        folder = tmp_path / "photos" / "test" / f"class{label}"
        folder.mkdir(parents=True)
        for number, image in enumerate(images[labels == label]):
            from PIL import Image

            Image.fromarray(image).save(folder / f"{number:03d}.png")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    data = {
        "PyDataset": Batches(),
        "DataLoader": torch.utils.data.DataLoader(pairs, batch_size=8),
        "tf.data": tf.data.Dataset.from_tensor_slices((images, labels)).batch(8),
        "generator": (Batches()[n] for n in range(8)),
        "list": [Batches()[n] for n in range(8)],
        "source": ArraySource(images, labels),
        "loader": Loader(ArraySource(images, labels), 8, labels=True, shuffle=False),
        "folder": str(tmp_path / "photos"),
    }
    model = classifier()
    expected = values(model, images, labels, batch_size=8)
    for name, x in data.items():
        np.testing.assert_allclose(values(model, x), expected, rtol=1e-5, err_msg=name)
    start = model.get_weights()
    histories = []
    for x in (Batches(), data["DataLoader"], (Batches()[n % 8] for n in range(16))):
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.01))
        history = model.fit(x, epochs=2, shuffle=False, steps_per_epoch=8, verbose=0)
        histories.append(history.history["loss"])
    np.testing.assert_allclose(histories[1:], [histories[0]] * 2, rtol=1e-5)
    assert model.predict(Batches(), verbose=0).shape == (64, 4)


FORMS = [
    ["sparse_categorical_crossentropy"],
    "sparse_categorical_crossentropy",
    "SparseCategoricalCrossentropy",
    {"predictions": "sparse_categorical_crossentropy"},
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.SparseCategoricalCrossentropy(),
    {"class_name": "SparseCategoricalCrossentropy", "config": {}},
]


@pytest.mark.parametrize(
    "loss", FORMS, ids=["list", "name", "class", "dict", "function", "object", "config"]
)
def test_a_loss_in_any_form_is_of_logits(labelled, loss):
    model = classifier()
    expected = values(model, *labelled)[0]
    model.compile("sgd", loss)
    assert values(model, *labelled)[0] == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_logits_is_refused_where_there_are_none(labelled):
    model = classifier(activation="softmax")
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert values(model, *labelled)[0] == pytest.approx(np.log(4), abs=0.3)
    with pytest.raises(ValueError, match="this classifier has an activation"):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))


def test_one_output_is_a_binary_classifier(labelled):
    images, labels = labelled[0], labelled[1] // 2
    model = classifier(1, class_names=("dark", "light"))
    logits = model.predict(images, verbose=0)
    right = float(((logits[:, 0] > 0) == labels).mean())
    for metrics in ("auto", ["accuracy"], ["binary_accuracy"], [keras.metrics.BinaryAccuracy()]):
        model.compile("sgd", "binary_crossentropy", metrics)
        assert values(model, images, labels)[1] == pytest.approx(right)
    ((name, share), (_, other)) = model.decode_predictions(logits[:1])[0]
    assert share == pytest.approx(1 / (1 + np.exp(-abs(logits[0, 0]))), rel=1e-5)
    assert share + other == pytest.approx(1)
    assert name == ("light" if logits[0, 0] > 0 else "dark")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.arange(64) % 4 + 1,
            "label .*4.* of image 3 is no class: 4 classes are",
        ),
        (np.arange(64) % 4 - 1, "of image 0 is no class"),
        (np.full(64, np.nan), "is no class"),
        (np.full(64, 2**40), "is no class"),
        (np.zeros((64, 3)), r"\(N, 4\) shares, got the shape \(64, 3\)"),
        (np.eye(4)[[0] * 64], r"\(64, 4\) do not fit .*SparseCat.*: give labels\.argmax\(-1\)"),
        (np.zeros(63), "64 examples, and there are 63 labels"),
        (None, "labels are missing"),
    ],
)
def test_labels_that_are_no_class_are_refused(labelled, labels, message):
    model = classifier()
    for act in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message):
            act(labelled[0], labels, verbose=0)
    if labels is not None and len(labels) == 64:
        with pytest.raises(ValueError, match=message):
            model.fit([(labelled[0], labels)], verbose=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"sample_weight": np.full(64, np.nan)}, "sample_weight has numbers that are negative or"),
        ({"class_weight": {0: 1, 1: -1, 2: 1, 3: 1}}, "class_weight has numbers that are negative"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(labelled, options, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(*labelled, verbose=0, **options)


@pytest.mark.one_backend
def test_sizes_that_make_no_model_are_refused(tmp_path):
    for count in (0, 3.0, "3"):
        with pytest.raises(ValueError, match="num_classes must be at least 1, an integer, got"):
            classifier(count)
    with pytest.raises(ValueError, match=r"image_shape must be \(height, .* got \(16,\)"):
        ViTBackbone(16, 4, 32, 1, 2)
    ViTBackbone(SHAPE, 4, 32, 1, 2).save_to_preset(str(tmp_path))
    with pytest.raises(ValueError, match="have other shapes than with another embed_dim: leave"):
        ViTBackbone.from_preset(str(tmp_path), embed_dim=16)


def test_a_stored_head_stays_where_its_arguments_are_the_stored_ones(labelled, tmp_path, caplog):
    model = classifier()
    model.fit(*labelled, verbose=0)
    model.save_to_preset(tmp_path / "p")
    expected = model.predict(labelled[0], verbose=0)
    for options in ({}, {"num_classes": 4}, {"pooling": "avg"}, {"num_classes": 4, "dropout": 0.1}):
        loaded = ImageClassifier.from_preset(str(tmp_path / "p"), **options)
        np.testing.assert_allclose(loaded.predict(labelled[0], verbose=0), expected, atol=1e-5)
    assert not [record for record in caplog.records if record.name == "mimzoo"]
    new = ImageClassifier.from_preset(str(tmp_path / "p"), num_classes=3)
    assert new.predict(labelled[0], verbose=0).shape == (64, 3)
    assert "num_classes given anew, so these weights start at random" in caplog.text


# --- values of images -----------------------------------------------------------------------------


def test_one_rule_for_values(labelled):
    images, labels = labelled
    model = classifier()
    expected = values(model, images, labels)
    forms = {
        "0..1": images.astype("float32") / 255,
        "0..255": images.astype("float32"),
        "uint16": images.astype("uint16") * 257,
        "int64": images.astype("int64"),
    }
    for name, form in forms.items():
        np.testing.assert_allclose(values(model, form, labels), expected, rtol=1e-4, err_msg=name)
        assert ArraySource(form).images.dtype == np.uint8
    dark = images.astype("float32")
    dark[3] = 0.0
    batches = [(dark[n : n + 2], labels[n : n + 2]) for n in range(0, 64, 2)]
    np.testing.assert_allclose(
        values(model, batches), values(model, dark.astype("uint8"), labels), rtol=1e-4
    )
    black = (images > 128).astype(bool)
    np.testing.assert_allclose(
        values(model, black, labels), values(model, black.astype("uint8") * 255, labels), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x / 127.5 - 1, r"neither 0..1 nor 0..255: give their range"),
        (lambda x: np.where(x > 200, np.nan, x / 255), "not finite"),
        (lambda x: x * 2.0, "neither 0..1 nor 0..255"),
        (lambda x: x.astype("int32") * 2, r"must lie in 0..255"),
        (lambda x: np.moveaxis(x, -1, 1), "channels first: transpose"),
    ],
)
def test_values_that_cannot_be_read_are_refused(labelled, change, message):
    images, labels = labelled
    wrong, model = change(images.astype("float32") if message[0] != "m" else images), classifier()
    for act in (
        lambda: model.fit(wrong, labels, verbose=0),
        lambda: model.predict(wrong, verbose=0),
        lambda: model.evaluate([(wrong, labels)], verbose=0),
        lambda: mae().fit(wrong, verbose=0),
        lambda: model.preprocessor.image_converter(wrong),
    ):
        with pytest.raises(ValueError, match=message):
            act()


def test_a_given_range_is_taken(labelled):
    images, _ = labelled
    converter = ImageConverter((16, 16), value_range=(-1, 1))
    expected = ops.convert_to_numpy(ImageConverter((16, 16))(images))
    found = ops.convert_to_numpy(converter(images.astype("float32") / 127.5 - 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    copy = ImageConverter.from_config(converter.get_config())
    assert copy.value_range == (-1, 1)
    with pytest.raises(ValueError, match=r"outside of their range -1\.\.1"):
        converter(images.astype("float32"))


def test_one_converter_serves_many_threads():
    rng = np.random.default_rng(0)
    converter = ImageConverter((16, 16))
    batches = [rng.integers(0, 256, (4, side, side, 3), "uint8") for side in (16, 20) * 8]
    expected = [converter.to_numpy(batch) for batch in batches]
    found: list = [None] * len(batches)

    def run(number: int) -> None:
        for _ in range(20):
            found[number] = converter.to_numpy(batches[number])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_backend
def test_a_process_reads_its_own_rows_only(labelled):
    images, labels = labelled
    read: list[int] = []

    source = ArraySource(images, labels)
    augment = KerasAugment([keras.layers.MixUp(0.8)], num_classes=4)
    options = {"labels": True, "batch_transform": [augment], "num_threads": 0}
    whole = Loader(source, 32, **options).batch(0)
    usual = Loader._images
    parts = []
    for number in range(4):
        loader = Loader(source, 32, shard=(number, 4), **options)
        loader._images = lambda index, epoch, loader=loader: (
            read.extend(index.tolist()) or usual(loader, index, epoch)
        )
        read.clear()
        parts.append(loader.batch(0))
        assert len(read) <= 32
    # 32 images are one group of mixing; of 128 each of two processes reads its 64.
    loader = Loader(
        source.take(np.resize(np.arange(64), 128), "more"), 128, shard=(1, 2), **options
    )
    loader._images = lambda index, epoch: read.extend(index.tolist()) or usual(loader, index, epoch)
    read.clear()
    loader.batch(0)
    assert len(read) == 64
    for column in range(2):
        together = np.concatenate([part[column] for part in parts])
        np.testing.assert_array_equal(together, whole[column])


@pytest.mark.one_backend
def test_short_epochs_continue_through_the_data(labelled):
    images, _ = labelled

    class Watched:
        """Four batches, with a length or without."""

        read: list[int] = []

        def __iter__(self):
            for number in range(4):
                self.read.append(number)
                yield images[16 * number : 16 * number + 16]

    class Sized(Watched):
        def __len__(self):
            return 4

    for data in (Sized(), Watched()):
        data.read.clear()
        mae().fit(data, epochs=3, steps_per_epoch=2, verbose=0)
        assert data.read[:6] == [0, 1, 2, 3, 0, 1]
        assert len(data.read) <= 8  # two are prepared ahead
    with pytest.raises(ValueError, match="needed for several epochs: give steps_per_epoch"):
        mae().fit(Watched(), epochs=2, verbose=0)
    with pytest.raises(ValueError, match="the data ended at step 3 of 4"):
        mae().fit(iter([images[:8]] * 3), steps_per_epoch=4, verbose=0)


# --- defaults -------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_defaults_follow_the_backbone():
    small = MAE(ViTBackbone.from_size("nano", image_shape=(64, 64, 3)))
    assert small.decoder.count_params() < small.backbone.count_params()
    assert (small.decoder.embed_dim, small.decoder.depth, small.decoder.num_heads) == (64, 2, 2)
    mixed = MixMIM(SwinV2Backbone.from_size("nano", image_shape=(32, 32, 3)))
    assert mixed.decoder.embed_dim == 64
    unit = SimMIM(SwinV2Backbone.from_size("nano", image_shape=(32, 32, 3))).masking
    assert unit.mask_patch_size == 8
    large = SimMIM(ViTBackbone(image_shape=(224, 224, 3), patch_size=16, depth=1, num_heads=12))
    assert large.masking.mask_patch_size == 32


@pytest.mark.skipif(keras.config.backend() == "torch", reason="Keras refuses it on torch")
@pytest.mark.parametrize("steps", [2, 3])
def test_every_row_is_evaluated_whatever_the_steps_per_execution(labelled, steps):
    images, labels = labelled
    model = classifier()
    expected, rows = values(model, images, labels, batch_size=16), model.predict(images, verbose=0)
    model.compile(steps_per_execution=steps)
    np.testing.assert_allclose(values(model, images, labels, batch_size=16), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict(images, batch_size=16, verbose=0), rows, atol=1e-5)
