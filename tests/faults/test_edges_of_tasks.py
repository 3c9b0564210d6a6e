"""Faults of Keras' own features on tasks: regularizers, LoRA, losses, batches, files."""

import copy

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

from mimzoo.data import ArraySource, Loader, Normalize
from mimzoo.downstream import extract_features
from mimzoo.models import ImageClassifier, ImageSegmenter, ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder, PixelTarget

one_backend = pytest.mark.one_backend
COUNT = 6
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), "uint8")
LABELS = np.arange(COUNT) % 3


def backbone() -> ViTBackbone:
    return ViTBackbone((16, 16, 3), patch_size=4, embed_dim=16, depth=2, num_heads=2)


def classifier(num_classes=3, **options) -> ImageClassifier:
    return ImageClassifier(backbone(), num_classes, **options)


def mae(**options) -> MAE:
    return MAE(backbone(), decoder=MAEDecoder(16, 1, 2), **options)


def test_regularizers_count_in_pretraining():
    task = mae()
    plain = task.evaluate(IMAGES, verbose=0)
    task.backbone.get_layer("block_0").mlp.expand.kernel.regularizer = keras.regularizers.L2(1.0)
    task.compile("sgd")
    added = float(convert_to_numpy(sum(task.losses)))
    assert added > 0.1
    assert task.evaluate(IMAGES, verbose=0) == pytest.approx(plain + added, rel=1e-5)


@one_backend
def test_a_regularizer_of_activities_counts_though_blocks_are_traced():
    model = classifier()
    model.backbone.get_layer("block_0").mlp.expand.activity_regularizer = keras.regularizers.L2(9.0)
    model.compile("sgd", metrics=None)
    found = model.evaluate(IMAGES, LABELS, verbose=0)
    model.compile("sgd", metrics=None, run_eagerly=True)
    assert found == pytest.approx(model.evaluate(IMAGES, LABELS, verbose=0), rel=1e-5)


@one_backend
@pytest.mark.parametrize("make", [classifier, mae])
def test_a_file_of_a_model_with_lora(make, tmp_path, caplog):
    model = make()
    model.backbone.enable_lora(2)
    model.compile(keras.optimizers.SGD(0.1))
    data = (IMAGES, LABELS) if model.labelled else (IMAGES,)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "a.keras")
    assert "call enable_lora on it again" in caplog.text
    for loaded in (keras.saving.load_model(tmp_path / "a.keras"), copy.deepcopy(model)):
        ours = [v.path for v in model.trainable_variables if "lora" not in v.name]
        assert [v.path.split("/")[-2:] for v in loaded.trainable_variables] == [
            path.split("/")[-2:] for path in ours
        ]
        np.testing.assert_allclose(
            *(one.predict(IMAGES, verbose=0) for one in (model, loaded)), atol=1e-4
        )


class Scaled(keras.losses.SparseCategoricalCrossentropy):
    """Without get_config."""

    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * super().call(y_true, y_pred)


@one_backend
def test_a_loss_of_the_users_own_keeps_its_arguments():
    model = classifier()
    with pytest.raises(ValueError, match=r"without get_config.* from_logits=True: give it that"):
        model.compile("sgd", Scaled(5.0))
    model.compile("sgd", Scaled(5.0, from_logits=True))
    found = model.evaluate(IMAGES, LABELS, verbose=0)[0]
    model.compile("sgd")
    assert found == pytest.approx(5 * model.evaluate(IMAGES, LABELS, verbose=0)[0], rel=1e-5)


@one_backend
def test_metrics_and_labels_that_do_not_fit():
    model = classifier()
    with pytest.raises(ValueError, match="AUC is of probabilities"):
        model.compile("sgd", "categorical_crossentropy", [keras.metrics.AUC()])
    model.compile("sgd", "categorical_crossentropy")
    for value in (np.nan, 100.0, -0.5):
        shares = np.eye(3, dtype="float32")[LABELS]
        shares[1, 1] = value
        with pytest.raises(ValueError, match=r"they lie in 0\.\.1"):
            model.fit(IMAGES, shares, verbose=0)
    with pytest.raises(ValueError, match=r"label 1\.7 of image 0 is no class"):
        classifier(1).fit(IMAGES, np.full(COUNT, 1.7), verbose=0)
    segmenter = ImageSegmenter(backbone(), 3, head_dim=8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    with pytest.raises(ValueError, match="give the segmenter ignore_index=0"):
        segmenter.compile("sgd", loss)


@one_backend
def test_the_default_accuracy_goes_by_the_labels():
    model = classifier()
    model.compile("sgd", "mse")
    found = model.evaluate(IMAGES, np.eye(3)[LABELS], batch_size=3, verbose=0)[1]
    assert found == pytest.approx((model.predict(IMAGES, verbose=0).argmax(1) == LABELS).mean())


@one_backend
def test_several_classes_may_be_right():
    model = classifier(np.int64(3))
    model.compile("sgd", "binary_crossentropy")
    (found,) = model.decode_predictions(np.full((1, 3), 5.0))
    assert [share for _, share in found] == [pytest.approx(0.9933, abs=1e-4)] * 3


@one_backend
def test_a_decoder_belongs_to_one_task():
    decoder = MAEDecoder(16, 1, 2)
    MAE(backbone(), decoder=decoder)
    with pytest.raises(ValueError, match="this MAEDecoder belongs to another task"):
        MAE(backbone(), decoder=decoder)


@one_backend
def test_the_state_dict_of_torch_is_complete():
    for make in (classifier, mae, backbone):
        model, other = make(), make()
        other.load_state_dict(model.state_dict())
        for one, two in zip(model.weights, other.weights, strict=True):
            np.testing.assert_array_equal(*map(convert_to_numpy, (one, two)))
    with pytest.raises(ValueError, match="this state_dict is of another model"):
        classifier(2).load_state_dict(classifier(3).state_dict())


@one_backend
def test_pixels_are_no_ready_inputs():
    task = mae()
    masks = task.draw(np.arange(COUNT))["masks"]
    bare = classifier(preprocessor=None)
    for act in (
        lambda: task.fit({"images": IMAGES, "masks": masks}, verbose=0),
        lambda: task.fit([{"images": IMAGES, "masks": masks}], verbose=0),
        lambda: classifier().predict({"images": IMAGES}, verbose=0),
        lambda: bare.fit(IMAGES, LABELS, verbose=0),
        lambda: bare.predict([IMAGES], verbose=0),
    ):
        with pytest.raises(ValueError, match=r"these images are uint8, pixels as they are"):
            act()
    for pixels in (IMAGES.astype("int32"), keras.ops.convert_to_tensor(IMAGES)):
        with pytest.raises(ValueError, match=r"pixels of 0\.\.255"):
            extract_features(task.backbone, [pixels])


@one_backend
def test_an_own_preprocessor_gets_what_was_given():
    model = classifier(preprocessor=keras.layers.Rescaling(2.0, -1.0))
    x = IMAGES.astype("float32") / 255
    found = [model.predict(one, verbose=0) for one in (x, [x], 2 * x - 1)[:2]]
    np.testing.assert_allclose(*found, atol=1e-6)
    np.testing.assert_allclose(found[0], convert_to_numpy(model(2 * x - 1)), atol=1e-5)
    with pytest.raises(ValueError, match="without mimzoo's ImageConverter"):
        mae(preprocessor=keras.layers.Rescaling(2.0, -1.0)).reconstruct(x)


def test_labels_are_checked_in_a_batch_of_its_own():
    model = classifier()
    with pytest.raises(ValueError, match="label 3 of image 2 is no class"):
        model.test_on_batch(IMAGES, LABELS + 1)
    with pytest.raises(ValueError, match="label 3 of image 2 is no class"):
        model.train_on_batch(IMAGES, LABELS + 1)
    np.testing.assert_allclose(
        model.test_on_batch(IMAGES, LABELS), model.evaluate(IMAGES, LABELS, verbose=0), rtol=1e-5
    )


@one_backend
def test_features_are_of_each_image_once(caplog):
    source = ArraySource(IMAGES, LABELS)
    options = {"labels": True, "normalize": Normalize()}
    assert extract_features(backbone(), Loader(source, 4, **options))[0].shape == (4, 16)
    assert "2 of the 6 images of array are left out" in caplog.text
    for epochs in (2, None):
        with pytest.raises(ValueError, match="give the Loader epochs=1"):
            extract_features(backbone(), Loader(source, 4, epochs=epochs, **options))


@one_backend
def test_fit_goes_on_where_a_file_left_off(tmp_path):
    task = mae()
    task.compile(keras.optimizers.SGD(0.01))
    task.fit(IMAGES, epochs=2, verbose=0)
    task.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    losses = [one.fit(IMAGES, epochs=2, verbose=0).history["loss"] for one in (task, loaded)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert task.fit(IMAGES, epochs=0, verbose=0).history == {}
    assert task.fit(IMAGES, initial_epoch=3, epochs=2, verbose=0).history == {}
    with pytest.raises(ValueError, match="at least one step"):
        task.fit([IMAGES], steps_per_epoch=0, verbose=0)


@one_backend
def test_the_same_target_keeps_the_decoder(tmp_path):
    task = mae(target=PixelTarget(normalize=False))
    task.save_to_preset(tmp_path)
    same = MAE.from_preset(str(tmp_path), target=PixelTarget(normalize=False))
    assert same.evaluate(IMAGES, verbose=0) == pytest.approx(task.evaluate(IMAGES, verbose=0))
