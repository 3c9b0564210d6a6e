"""The bundled presets give the same numbers on every backend.

`python tests/test_bundled_preset.py` writes the golden files anew, on the backend that is set; the
suite compares all backends with them.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from gradients import forward, relative_error, value_and_gradients
from keras import ops
from mimzoo_training.measure import load_task

import mimzoo
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.pretraining import MAE

NAME = "vit_nano_mae_fmnist_20ep"
NAMES = mimzoo.list_presets(state="bundled")
GOLDEN = Path(__file__).parent / "golden"
FULL = ("patch_embed/projection/kernel", "block_5/attention/qkv/bias", "decoder/mask_token")


def at_its_size(task, count: int) -> np.ndarray:
    """Embedded test images as a task takes them, (N, H, W, 3) uint8."""
    # Resized by PIL, not by the backend.
    resize = mimzoo.data.ResizeCrop(task.backbone.image_shape[0], 1.0)
    images = mimzoo.data.open_source("embedded", "test").images[:count]
    return np.stack([resize(image) for image in images])


def figures(name: str) -> dict[str, np.ndarray]:
    """Features and validation loss of a preset on embedded test images."""
    task = load_task(name)
    images = at_its_size(task, 64)
    return {
        "features": forward(task.backbone, task.preprocess(images[:8])),
        "val_loss": np.float64(task.evaluate(images, batch_size=32, verbose=0)),
    }


def gradients() -> dict[str, np.ndarray]:
    """Loss and gradients of the first preset on the same images."""
    task = MAE.from_preset(NAME)
    x = task.preprocess(at_its_size(task, 64))
    masks = task.draw(np.arange(64))["masks"]

    def loss(model, pixels):
        inputs = {"images": pixels, "masks": masks}
        return model.compute_loss(x=inputs, y_pred=model(inputs))

    value, by_input, by_weight = value_and_gradients(loss, task, x)
    found = {"loss": np.float64(value), "gradient/images": by_input[:4]}
    paths = [v.path for v in task.trainable_variables]
    for name in FULL:
        (number,) = [i for i, path in enumerate(paths) if path.endswith(name)]
        found[f"gradient/{name}"] = by_weight[number]
    found["gradient_norms"] = np.array([np.linalg.norm(np.float64(g)) for g in by_weight])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_on_every_backend(name):
    expected, found = dict(np.load(GOLDEN / f"{name}.npz")), figures(name)
    assert np.abs(found["features"] - expected["features"]).max() < 1e-5
    # A teacher computes in bfloat16, which backends round differently.
    rel = 1e-3 if "-features_" in name else 1e-5
    assert found["val_loss"] == pytest.approx(float(expected["val_loss"]), rel=rel)


def test_the_same_gradients_on_every_backend():
    expected, found = dict(np.load(GOLDEN / f"{NAME}.npz")), gradients()
    assert found["loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
    for name in (n for n in expected if n.startswith("gradient")):
        assert relative_error(found[name], expected[name]) < 1e-4, name


@pytest.mark.one_backend
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_carries_recipe_results_licence_and_is_small(name):
    entry = mimzoo.preset_info(name)
    assert entry.state == "bundled"
    assert entry.licence
    assert entry.measured
    files = {p.name: p.stat().st_size for p in entry.folder.iterdir()}
    assert sum(files.values()) < 5e6
    assert {"recipe.json", "results.json", "curve.csv", "curve.png", "README.md"} <= set(files)
    results = json.loads((entry.folder / "results.json").read_text())
    assert all(r["date"] and r["command"] for r in results)
    task = load_task(name)
    measured = {r["metric"]: r for r in entry.measured}
    stored = measured["masked loss, masks of seed 0"]["value"]
    if "_fmnist_" in name:  # no photographs come with mimzoo
        # 2,000 of the 10,000 images that the stored figure is of.
        loss = task.evaluate(at_its_size(task, 2000), batch_size=500, verbose=0)
        assert loss == pytest.approx(stored, rel=0.03)


@pytest.mark.one_backend
def test_it_knows_more_than_a_random_network():
    """A few labels and a linear layer are enough to see it."""
    from mimzoo.downstream import extract_features, linear_probe

    def accuracy(load_weights: bool) -> float:
        model = ImageClassifier.from_preset(NAME, load_weights=load_weights, num_classes=10)

        def features(split: str, count: int) -> tuple:
            source = mimzoo.data.take_subset(
                mimzoo.data.open_source("embedded", split), count=count
            )
            images = ops.convert_to_numpy(model.preprocessor(source.images))
            return extract_features(model.backbone, [(images, source.labels)])

        return linear_probe(*features("train", 300), *features("test", 500), num_classes=10)

    assert accuracy(True) > accuracy(False) + 0.1


def test_it_loads_at_another_size_and_as_a_rectangle():
    backbone = ViTBackbone.from_preset(NAME, image_shape=(32, 48, 3))
    out = ops.convert_to_numpy(backbone(np.zeros((1, 32, 48, 3), "float32")))
    assert out.shape == (1, 97, 128)
    assert np.isfinite(out).all()


def test_keras_hub_loads_the_mim_preset():
    import keras_hub

    folder = str(mimzoo.preset_info(NAME).folder)
    model = keras_hub.models.ImageClassifier.from_preset(folder, num_classes=3)
    assert model.predict(np.zeros((2, 28, 28), "uint8"), verbose=0).shape == (2, 3)
    ours = ViTBackbone.from_preset(NAME)
    x = np.ones((1, 28, 28, 3), "float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.backbone(x)), ops.convert_to_numpy(ours(x))
    )


if __name__ == "__main__":
    for name in NAMES:
        more = gradients() if name == NAME else {}
        np.savez_compressed(GOLDEN / f"{name}.npz", **figures(name), **more)
