"""HOG as a target, against scikit-image and a naive loop."""

import keras
import numpy as np
import pytest
from gradients import forward
from keras import ops
from skimage.feature import hog
from test_simmim import nano_task as nano_simmim

from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE, HOGTarget, MAEDecoder, RandomMasking, SimMIM
from mimzoo.pretraining.targets import Step

VIT = {"image_shape": (16, 24, 3), "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def naive(image: np.ndarray, target: HOGTarget) -> np.ndarray:
    """(H, W, C) -> (rows, cols, C or 1, bins), pixel by pixel, as the docstring says."""
    height, width, channels = image.shape
    image = image.astype("float64")
    smooth = {"sobel": (1, 2, 1), "central": (0, 1, 0)}[target.gradient]
    side, bins = target.cell_size, target.bins
    depth = channels if target.per_channel else 1
    out = np.zeros((height // side, width // side, depth, bins))

    def pixel(row, col):
        mirrored = (abs(p) if p < n else 2 * (n - 1) - p for p, n in ((row, height), (col, width)))
        return image[tuple(mirrored)]

    for row in range(height):
        for col in range(width):
            gx = sum(
                w * (pixel(row + d, col - 1) - pixel(row + d, col + 1))
                for w, d in zip(smooth, (-1, 0, 1), strict=True)
            )
            gy = sum(
                w * (pixel(row - 1, col + d) - pixel(row + 1, col + d))
                for w, d in zip(smooth, (-1, 0, 1), strict=True)
            )
            strength = np.hypot(gx, gy)
            used = range(channels) if target.per_channel else [int(np.argmax(strength))]
            for place, channel in enumerate(used):
                angle = np.arctan2(gx[channel], gy[channel]) % np.pi
                k = int(angle / np.pi * bins) % bins
                out[row // side, col // side, place, k] += strength[channel]
    return out / np.maximum(np.sqrt((out**2).sum(-1, keepdims=True)), 1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient": "central", "cell_size": 4, "bins": 6},  # edges of bins on both axes
        {"per_channel": False},
    ],
)
def test_the_naive_loop(options):
    target = HOGTarget(**options)
    images = random_images(2, 16, 24, 3)
    expected = np.stack([naive(image, target) for image in images])
    np.testing.assert_allclose(forward(target.histograms, images), expected, atol=1e-5)

    # In what is predicted at once, squares go row by row, then channels, then bins.
    side = 8 // target.cell_size
    actual = forward(lambda x: target.targets(Step(x, 8)), images)
    assert actual.shape == (2, 6, target.size(8, 3))
    one = expected[1, side : 2 * side, 2 * side : 3 * side]
    np.testing.assert_allclose(actual[1, 5], one.reshape(-1), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_scikit_image(channels):
    """The definitions meet inside the border, with the plain gradient and one channel chosen.

    scikit-image measures the angle from the other axis, so it gets the transposed image; its
    gradient at the border is zero, and its norm has an epsilon of 1e-5.
    """
    image = random_images(32, 40, channels)
    expected = hog(
        image.transpose(1, 0, 2),
        orientations=9,
        pixels_per_cell=(8, 8),
        cells_per_block=(1, 1),
        block_norm="L2",
        feature_vector=False,
        channel_axis=-1,
    )[:, :, 0, 0].transpose(1, 0, 2)
    target = HOGTarget(gradient="central", per_channel=False)
    actual = forward(target.histograms, image[None])[0, :, :, 0]
    np.testing.assert_allclose(actual[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)


def test_normalisation_does_not_matter():
    images = random_images(1, 16, 16, 3)
    changed = images * np.float32([0.2, 3.0, 1.5]) + np.float32([5.0, -1.0, 0.3])
    target = HOGTarget()
    expected = forward(target.histograms, images)
    actual = forward(target.histograms, changed)
    # Rounding may move a pixel over the edge of a bin; it did for none.
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    np.testing.assert_allclose((actual**2).sum(-1), 1, atol=1e-5)
    assert not forward(target.histograms, np.ones((1, 8, 8, 3), "float32")).any()


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_loss(loss):
    target = HOGTarget(loss=loss)
    images = random_images(2, 16, 24, 3)
    predictions = random_images(2, 6, 27)
    expected = np.stack([naive(image, target).reshape(6, 27) for image in images])
    error = predictions - expected
    expected = (error**2 if loss == "mse" else np.abs(error)).mean(-1)
    actual = forward(lambda x: target.loss(Step(x, 8), predictions), images)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def mae(**options) -> MAE:
    decoder = MAEDecoder(32, 1, 2)
    return MAE(ViTBackbone(**VIT), RandomMasking(0.5), decoder, HOGTarget(**options))


def swin(**options) -> SimMIM:
    """A stride of 4 over patches of 2."""
    options = {"cell_size": 4, **options}
    return nano_simmim(target=HOGTarget(**options), masking=RandomMasking(0.6))


@pytest.mark.one_backend
@pytest.mark.parametrize("make", [mae, swin])
def test_training_lowers_the_loss(make, images):
    task = make()
    task.compile(keras.optimizers.AdamW(5e-3))
    start = task.evaluate(images, verbose=0)
    history = task.fit(images, batch_size=8, epochs=6, validation_data=images, verbose=0)
    assert history.history["val_loss"][-1] < 0.8 * start


def test_cells_of_several_patches_count_by_their_hidden_share(images):
    task = swin()
    x = task.preprocess(images)
    masks = task.draw(np.arange(16))["masks"]
    predictions = random_images(16, 24, 27)
    loss = ops.convert_to_numpy(task.target.loss(Step(x, 4), predictions))
    share = masks.reshape(16, 4, 2, 6, 2).mean((2, 4)).reshape(16, 24)
    assert 0 < (share % 1 > 0).mean() < 1
    actual = task.compute_loss(x={"images": x, "masks": masks}, y_pred=predictions)
    expected = (loss * share).sum() / share.sum()
    assert float(ops.convert_to_numpy(actual)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [mae, swin])
@pytest.mark.one_backend
def test_pictures(make, images):
    task = make()
    pictures = task.reconstruct(images[:3])
    patch = task.backbone.patch_size
    masks = pictures["masks"].reshape(3, *task.backbone.grid)
    hidden = np.kron(masks, np.ones((1, patch, patch))) > 0
    target, painted = pictures["target"], pictures["reconstruction"]
    assert target.shape == painted.shape == images[:3].shape
    np.testing.assert_array_equal(painted[~hidden], target[~hidden])
    assert (painted[hidden] != target[hidden]).any()
    np.testing.assert_array_equal(pictures["original"], images[:3])


def test_glyphs_lie_along_edges():
    """A vertical edge draws a vertical line."""
    image = np.zeros((1, 8, 8, 3), "float32")
    image[:, :, 4:] = 1 + np.arange(8, dtype="float32")[:, None, None] * 1e-3
    target = HOGTarget()
    drawn = target.pictures(Step(image, 8), forward(lambda x: target.targets(Step(x, 8)), image))[
        0, ..., 0
    ]
    assert drawn[:, 3:5].mean() > 2 * drawn[3:5].mean()


def test_presets_keep_the_target(images, tmp_path):
    task = swin(bins=6, gradient="central", per_channel=False, loss="l1")
    task.save_to_preset(tmp_path / "p")
    loaded = SimMIM.from_preset(str(tmp_path / "p"))
    assert loaded.target.get_config() == task.target.get_config()
    expected = task.evaluate(images, verbose=0)
    assert loaded.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"8 pixels do not divide .* 4 pixels: .*cell_size=4"):
        MAE(ViTBackbone(**{**VIT, "patch_size": 4}), target=HOGTarget())
    with pytest.raises(ValueError, match=r"cell_size=6"):
        HOGTarget().size(12, 3)
    with pytest.raises(ValueError, match=r"do not divide an image of 20x24.* 16x24"):
        HOGTarget().targets(Step(np.zeros((1, 20, 24, 3), "float32"), 8))
    with pytest.raises(ValueError, match="gradient must be one of sobel, central"):
        HOGTarget(gradient="prewitt")
    with pytest.raises(ValueError, match="loss must be one of mse, l1"):
        HOGTarget(loss="cosine")
    with pytest.raises(ValueError, match="at least 1"):
        HOGTarget(bins=0)
