"""Faults of losses and metrics that users name, and of what files keep of a compiled model."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

from mimzoo.models import ImageClassifier, ImageSegmenter, ObjectDetector, ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder

COUNT = 6
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), "uint8")
LABELS = np.arange(COUNT) % 2


def backbone() -> ViTBackbone:
    return ViTBackbone((16, 16, 3), patch_size=4, embed_dim=8, depth=1, num_heads=2)


def measured(model, *data) -> dict:
    return model.evaluate(*data, verbose=0, return_dict=True)


@pytest.mark.one_backend
def test_a_half_of_a_probability_is_the_logit_0(caplog):
    model = ImageClassifier(backbone(), 1)
    model.compile(metrics=["accuracy", "Precision", keras.metrics.Recall(thresholds=0.5)])
    assert [record.message[:40] for record in caplog.records] == [
        "the metric recall is made anew, for logi"
    ]
    model.output_dense.bias.assign([0.3])
    found = measured(model, IMAGES, np.ones(COUNT, int))
    assert {found[name] for name in ("accuracy", "precision", "recall")} == {1.0}
    several = ImageClassifier(backbone(), 3)
    several.compile(loss="binary_crossentropy")
    several.output_dense.bias.assign([0.3, -0.3, 0.3])
    labels = np.tile([1, 0, 1], (COUNT, 1))
    assert measured(several, IMAGES, labels)["binary_accuracy"] == 1
    several.compile(loss="binary_crossentropy", metrics=["binary_accuracy", "Precision"])
    assert list(measured(several, IMAGES, labels).values())[::2] == [1.0, 1.0]


@pytest.mark.one_backend
def test_what_is_of_probabilities_is_refused():
    model = ImageClassifier(backbone(), 2)
    for options in (
        {"loss": "categorical_crossentropy", "metrics": ["Precision"]},
        {"metrics": [keras.metrics.PrecisionAtRecall(0.5)]},
        {"metrics": [keras.metrics.F1Score(threshold=0.5)]},
        {"loss": "kl_divergence"},
    ):
        with pytest.raises(ValueError, match="is of probabilities, and the model gives logits"):
            model.compile(**options)
    with pytest.raises(ValueError, match="Dice is of probabilities"):
        ImageSegmenter(backbone(), 2, head_dim=8).compile(loss="dice")
    with_softmax = ImageClassifier(backbone(), 2, activation="softmax")
    with_softmax.compile(loss="kl_divergence", metrics=["Precision"])
    assert ImageClassifier(backbone(), 2, activation=keras.activations.linear).gives_logits


@pytest.mark.one_backend
@pytest.mark.parametrize("loss", ["mse", "categorical_hinge", "poisson", "binary_crossentropy"])
def test_class_numbers_are_no_values(loss):
    model = ImageClassifier(backbone(), 2)
    model.compile(loss=loss)
    with pytest.raises(ValueError, match="labels are class numbers, which the loss"):
        model.evaluate(IMAGES, LABELS, batch_size=2, verbose=0)
    model.evaluate(IMAGES, np.eye(2)[LABELS], verbose=0)


@pytest.mark.one_backend
def test_metrics_take_the_labels_of_the_loss():
    model = ImageClassifier(backbone(), 2)
    for metric in ("categorical_accuracy", keras.metrics.TopKCategoricalAccuracy(1)):
        with pytest.raises(ValueError, match="and the loss SparseCategoricalCrossentropy class"):
            model.compile(metrics=[metric])
    with pytest.raises(ValueError, match="takes class numbers, and the loss Categorical"):
        model.compile(loss="categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
    model.compile(metrics=["sparse_categorical_accuracy"])


@pytest.mark.one_backend
def test_an_activation_gives_probabilities():
    for activation in ("log_softmax", "relu"):
        with pytest.raises(ValueError, match="gives no probabilities: leave it out"):
            ImageClassifier(backbone(), 2, activation=activation)
    ImageClassifier(backbone(), 2, activation=lambda x: x / 2)


@pytest.mark.one_backend
def test_the_accuracy_is_that_of_the_labels():
    model = ImageClassifier(backbone(), 2)
    model.compile(loss="categorical_crossentropy")
    found = measured(model, IMAGES, np.eye(2)[LABELS])
    right = (model.predict(IMAGES, verbose=0).argmax(1) == LABELS).mean()
    assert found["categorical_accuracy"] == pytest.approx(right)


@pytest.mark.one_backend
def test_pixels_that_are_not_learned_count_nowhere():
    maps = np.random.default_rng(1).integers(0, 2, (COUNT, 16, 16))
    half = maps.copy()
    half[:, :8] = 255
    model = ImageSegmenter(backbone(), 2, head_dim=8)
    expected = measured(model, IMAGES, half)["loss"]
    own = keras.metrics.MeanIoU(2, sparse_y_pred=False, name="own")
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy", own])
    found = measured(model, IMAGES, half)
    right = model.predict(IMAGES) == half
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["accuracy"] == pytest.approx(right[half != 255].mean(), rel=1e-5)
    assert 0 < found["own"] < 1
    trained = model.fit(IMAGES, half, validation_data=(IMAGES, half), verbose=0).history
    assert {"accuracy", "own", "val_accuracy", "val_own"} < set(trained)


@pytest.mark.one_backend
def test_regularisation_counts_once():
    model = ImageSegmenter(backbone(), 2, head_dim=8)
    maps = np.zeros((COUNT, 16, 16), int)
    x = model.preprocess(IMAGES)
    outputs = model(x, training=True)
    plain = float(convert_to_numpy(model.compute_loss(x, maps, outputs)))
    kernel = model.backbone.get_layer("block_0").attention.qkv
    kernel.kernel.regularizer = keras.regularizers.L2(100.0)
    with_it = float(convert_to_numpy(model.compute_loss(x, maps, outputs)))
    assert with_it - plain == pytest.approx(float(convert_to_numpy(sum(model.losses))), rel=1e-4)


def test_losses_of_a_detector_are_sums_of_logits():
    model = ObjectDetector(backbone(), 2, neck_dim=8, head_dim=8, head_depth=1)
    targets = {"boxes": np.tile(np.float32([[2, 2, 9, 9]]), (COUNT, 1, 1))}
    targets["labels"] = np.zeros((COUNT, 1), int)
    expected = measured(model, IMAGES, targets)
    focal = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True)
    model.compile(box_loss="mae", classification_loss=focal)
    for name, value in measured(model, IMAGES, targets).items():
        assert value == pytest.approx(expected[name], rel=1e-5)
    with pytest.raises(ValueError, match=r"is a function, .* Keras would average"):
        model.compile(box_loss=lambda y, p: abs(y - p))
    with pytest.raises(ValueError, match="have no metrics in training"):
        model.compile(weighted_metrics=["accuracy"])
    model.compile("sgd")
    with pytest.raises(ValueError, match="sample_weight is not supported"):
        model.fit([(IMAGES, targets, np.zeros(COUNT, "f4"))], verbose=0)


@pytest.mark.parametrize("layer", [pytest.param(None, marks=pytest.mark.one_backend), "block_0"])
def test_frozen_parts_stay_frozen_in_a_file(layer, tmp_path):
    model = ImageClassifier(backbone(), 2)
    frozen = model.backbone if layer is None else model.backbone.get_layer(layer)
    frozen.trainable = False
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(IMAGES, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    assert int(loaded.optimizer.iterations) == 1
    loaded.fit(IMAGES, LABELS, verbose=0)
    same = [
        np.array_equal(*map(convert_to_numpy, pair))
        for pair in zip(model.weights, loaded.weights, strict=True)
    ]
    assert same.count(False) == len(model.trainable_weights)


@pytest.mark.one_backend
def test_mim_tasks_refuse_what_they_would_ignore():
    task = MAE(backbone(), decoder=MAEDecoder(8, 1, 2))
    for options in ({"metrics": ["mae"]}, {"loss_weights": [2.0]}):
        with pytest.raises(ValueError, match=f"compile without {next(iter(options))}"):
            task.compile(**options)
    task.compile("sgd")
    with pytest.raises(ValueError, match="class_weight is for tasks with labels"):
        task.fit(IMAGES, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match="these batches have weights, which are for labels"):
        task.fit([(IMAGES, LABELS, np.ones(COUNT))], verbose=0)


@pytest.mark.one_backend
def test_files_keep_what_was_asked_for(tmp_path):
    model = ImageClassifier(backbone(), 2, preprocessor=None, head_dtype="bfloat16")
    model.save_to_preset(str(tmp_path / "preset"))
    loaded = ImageClassifier.from_preset(str(tmp_path / "preset"))
    assert loaded.preprocessor is None
    assert loaded.output_dense.compute_dtype == "bfloat16"
