"""Faults of MIM methods, features and optimizers: masks, targets and numbers that do not fit."""

import keras
import numpy as np
import pytest
from mimzoo_training import cli
from mimzoo_training.by_class import absent

from mimzoo.data import ArraySource, KerasAugment, Loader, Normalize, Subset, finetune_augment
from mimzoo.data.pixels import rgb_images
from mimzoo.downstream import extract_features, knn_accuracy, linear_probe
from mimzoo.downstream.linear_probe import feature_model
from mimzoo.models import ImageClassifier, MixMIMBackbone, ViTBackbone
from mimzoo.optimizers import LayerDecay, LayerDecayAdamW
from mimzoo.pretraining import (
    MAE,
    Data2Vec,
    FeatureTarget,
    MAEDecoder,
    MixMasking,
    MixMIM,
    PixelTarget,
    RandomMasking,
    SimMIM,
)
from mimzoo.pretraining.data2vec import (
    ConvDecoder,
    Data2VecBackbone,
    Data2VecTarget,
    InverseBlockMasking,
)
from mimzoo.tasks.preprocessing import ImageConverter

pytestmark = pytest.mark.one_backend
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), "uint8")
LABELS = np.arange(20) % 2


def backbone(cls=ViTBackbone) -> ViTBackbone:
    return cls((16, 16, 3), patch_size=4, embed_dim=8, depth=2, num_heads=2)


def mae(**options) -> MAE:
    return MAE(backbone(), decoder=MAEDecoder(8, 1, 2), **options)


def data2vec(**options) -> Data2Vec:
    return Data2Vec(backbone(Data2VecBackbone), decoder=ConvDecoder(1, groups=4), **options)


# === Masks ===


def test_a_masking_that_does_not_fit_is_refused_when_the_task_is_made():
    with pytest.raises(ValueError, match="hides the same number in each image"):
        mae(masking=MixMasking(0.5, mask_patch_size=4, mask_ratio_range=0.4))
    with pytest.raises(ValueError, match="MAE takes one mask of each image"):
        mae(masking=InverseBlockMasking(masks_per_image=2))
    with pytest.raises(ValueError, match="SimMIM takes one mask of each image"):
        SimMIM(backbone(), masking=InverseBlockMasking(masks_per_image=2))
    with pytest.raises(ValueError, match="Data2Vec takes several masks of each image"):
        data2vec(masking=RandomMasking())
    mixed = MixMIMBackbone.from_size("nano", image_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="give a MixMasking"):
        MixMIM(mixed, masking=RandomMasking(0.5, mask_patch_size=8))


def test_a_masking_that_changed_is_noticed():
    task = mae()
    task.masking.mask_ratio = 0.5
    with pytest.raises(ValueError, match="was made for 4 visible patches, and RandomMasking shows"):
        task.evaluate(IMAGES, verbose=0)


@pytest.mark.parametrize("factor", [255, -1, 0.5])
def test_masks_are_0_or_1(factor):
    task = mae()
    masks = task.draw(np.arange(20))["masks"] * np.float32(factor)
    with pytest.raises(ValueError, match=r"masks must be 0 or 1 \(1 = hidden\), got"):
        task.predict({"images": task.preprocess(IMAGES), "masks": masks}, verbose=0)


def test_targets_of_data2vec():
    for top in (-1, 0, 3):
        with pytest.raises(ValueError, match=r"top must lie in 1\.\.2"):
            data2vec(target=Data2VecTarget(top=top))
    with pytest.raises(ValueError, match="give a target of features"):
        data2vec(target=PixelTarget())


# === Numbers ===


def test_mean_and_std_are_of_pixels_in_0_to_1():
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    for make in (
        lambda: Normalize(mean, std),
        lambda: ImageConverter((16, 16), mean=mean, std=std),
        lambda: FeatureTarget("teacher", mean=mean, std=std),
        lambda: finetune_augment(2, mean=mean, std=std),
    ):
        with pytest.raises(ValueError, match=r"got .* divide those of"):
            make()
    Normalize((0.0,) * 3, (1.0,) * 3)


def test_augmented_images_may_be_off_by_a_rounding_error():
    images = np.array([-7.6e-06, 255.0001], "float32").repeat(96).reshape(1, 8, 8, 3)
    assert set(np.unique(rgb_images(images))) == {0, 255}
    with pytest.raises(ValueError, match="are neither"):
        rgb_images(images - 0.1)
    source = ArraySource(np.zeros((16, 16, 16, 3), "uint8"), np.arange(16) % 2)
    augment = finetune_augment(2, rand_augment=False, random_erasing=1.0)
    assert isinstance(augment, KerasAugment)
    model = ImageClassifier(backbone(), 2)
    model.compile("adam", "categorical_crossentropy")
    model.fit(Loader(source, 8, labels=True, batch_transform=[augment]), verbose=0)


def test_a_subset_by_booleans():
    source = ArraySource(IMAGES, LABELS)
    assert Subset(source, LABELS == 1).labels.tolist() == [1] * 10
    for wrong in (np.array([0.7, 1.9]), np.zeros(3, bool), np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match="subset indices must be"):
            Subset(source, wrong)


def test_options_of_a_wrapped_optimizer():
    optimizer = LayerDecayAdamW(ImageClassifier(backbone(), 2), 1e-2, 1.0, weight_decay=0.05)
    assert optimizer.weight_decay == 0.05
    optimizer.weight_decay = 5.0
    assert optimizer.inner_optimizer.weight_decay == 5.0
    clipped = LayerDecay(keras.optimizers.SGD(1.0), [(".*", 1.0)])
    clipped.global_clipnorm = 1e-3
    weight = keras.Variable([1.0])
    clipped.apply([keras.ops.ones(1)], [weight])
    assert float(1 - keras.ops.convert_to_numpy(weight)[0]) == pytest.approx(1e-3, rel=1e-2)


def test_numbers_of_commands(tmp_path, capsys):
    command = ["finetune", "vit_nano_mae_fmnist_20ep", "--data", "embedded"]
    for ema in ("1", "1.5", "-0.1"):
        assert cli.main([*command, "--workdir", str(tmp_path / "w"), "--ema", ema]) == 1
        assert "--ema must lie in [0, 1)" in capsys.readouterr().err
    named = ArraySource(IMAGES, LABELS, ("cat", "dog"))
    assert absent(named, 4).endswith("2 of 4 classes: 2, 3")


# === Features ===


def test_features_are_of_normalised_images_in_order():
    model = backbone()
    source = ArraySource(IMAGES, LABELS)
    options = {"normalize": Normalize(), "shuffle": False, "drop_remainder": False}
    expected, labels = extract_features(model, Loader(source, 8, labels=True, **options))
    assert (len(expected), labels.tolist()) == (20, LABELS.tolist())
    padded = Loader(source, 8, labels=True, pad_remainder=True, **options)
    found, labels = extract_features(model, padded)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert labels.tolist() == LABELS.tolist()
    for batches in (Loader(source, 8, labels=True), [IMAGES]):
        with pytest.raises(ValueError, match="which no backbone takes"):
            extract_features(model, batches)
    with pytest.raises(ValueError, match="this Loader shuffles"):
        extract_features(model, Loader(source, 8, normalize=Normalize()))
    ready = [Normalize()(IMAGES)]
    with pytest.raises(ValueError, match=r"this is a ViTImageClassifier: give its `\.backbone`"):
        extract_features(ImageClassifier(model, 2), ready)
    with pytest.raises(ValueError, match="leave out pooling"):
        extract_features(feature_model(model), ready, pooling="avg")


@pytest.mark.parametrize("measure", [linear_probe, knn_accuracy])
def test_features_that_do_not_fit(measure):
    features = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(ValueError, match="features of 4 numbers, test of 1"):
        measure(features, LABELS, features[:, :1], LABELS)
    features[3, 2] = np.nan
    with pytest.raises(ValueError, match="train: features are not finite"):
        measure(features, LABELS, np.zeros((2, 4)), LABELS[:2])


def test_images_that_a_loader_leaves_out_are_counted(caplog):
    model = ImageClassifier(backbone(), 2)
    model.compile(keras.optimizers.SGD(0.0))
    model.evaluate(Loader(ArraySource(IMAGES, LABELS), 16, labels=True), verbose=0)
    assert "4 of the 20 images" in caplog.text
    assert "drop_remainder=False" in caplog.text
