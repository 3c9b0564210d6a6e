# %% [markdown]
# # What to predict: pixels, edges or features
#
# A network of masked image modeling predicts what is hidden, but as what? As pixels, it spends much
# of its effort on textures that no one could guess. So others predict edges, or what a trained
# network makes of the whole image. This guide shows four targets as pictures, trains one small
# network with each, and compares what they have learned.
#
# Read `guides/masked_image_modeling.py` first. About five minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

from mimzoo.data import Loader, Normalize
from mimzoo.downstream import extract_features, linear_probe
from mimzoo.pretraining import MAE, FeatureTarget, HOGTarget, MAEDecoder, PixelTarget, Target

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
EPOCHS = 1 if FAST else 15
NUM_IMAGES = 100 if FAST else 1000
TEACHER = "vit_nano_mae_fmnist_20ep"

train = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "train"), count=NUM_IMAGES)
test = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=3 * NUM_IMAGES)

# %% [markdown]
# ## Four targets
#
# - **Pixels** as they are (SimMIM, [arXiv 2111.09886](https://arxiv.org/abs/2111.09886)).
# - **Normalised patches**: each patch without its brightness and contrast (MAE, [arXiv
#   2111.06377](https://arxiv.org/abs/2111.06377)).
# - **HOG**, histograms of oriented gradients: in each cell, how much edge in which direction
#   (MaskFeat, [arXiv 2112.09133](https://arxiv.org/abs/2112.09133)).
# - **Features of a teacher**: what a network that was trained before makes of the whole image. Here
#   the teacher is mimzoo's bundled MAE model, which has seen 60,000 images; the students see 1,000.
#
# A target is an object. The method does not change.

# %%
TARGETS = {
    "pixels": lambda: PixelTarget(normalize=False),
    "normalised patches": lambda: PixelTarget(normalize=True),
    "HOG": lambda: HOGTarget(cell_size=4),
    "teacher's features": lambda: FeatureTarget(TEACHER),
}


def new_task(target: Target) -> MAE:
    """A new network, the same each time, towards a target."""
    keras.utils.set_random_seed(0)
    depth = 1 if FAST else 4
    backbone = mimzoo.models.ViTBackbone.from_size("nano", image_shape=(28, 28, 3), depth=depth)
    decoder = MAEDecoder(embed_dim=64, depth=1, num_heads=2)
    return MAE(backbone, decoder=decoder, target=target)


# %% [markdown]
# ## Training
#
# The same network, images, masks and number of steps for each. The losses cannot be compared with
# each other: one is of grey values, the next of directions.

# %%
tasks, seconds = {}, {}
for name, make in TARGETS.items():
    task = tasks[name] = new_task(make())
    steps = EPOCHS * (NUM_IMAGES // 100)
    rate = mimzoo.optimizers.WarmupCosine(2e-3, total_steps=steps, warmup_steps=steps // 20)
    task.compile(mimzoo.optimizers.AdamW(task, rate))
    start = time.perf_counter()
    losses = task.fit(train, batch_size=100, epochs=EPOCHS, verbose=0).history["loss"]
    seconds[name] = time.perf_counter() - start
    print(f"{name}: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {seconds[name]:.0f} s")

# %% [markdown]
# ## What each of them sees, should predict, and predicts
#
# HOG is drawn as strokes along the edges. A teacher's features have 128 numbers a patch; their
# three strongest directions are shown as red, green and blue.

# %%
some = [test.image(i) for i in range(8)]
for name, task in tasks.items():
    pictures = task.reconstruct(some)
    kinds = [kind for kind in pictures if kind != "masks"]
    figure, grid = plt.subplots(
        len(kinds), len(some), figsize=(9.6, 1.25 * len(kinds)), layout="constrained"
    )
    for kind, line in zip(kinds, grid, strict=True):
        for axes, image in zip(line, pictures[kind], strict=True):
            axes.imshow(np.squeeze(image), interpolation="nearest", cmap="gray")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(kind)
    figure.suptitle(name)

# %% [markdown]
# ## What they have learned
#
# A linear probe: the network is frozen, one linear layer is trained on its features, and the share
# of right answers on unseen images is counted. The teacher itself is the last row.


# %%
def features(backbone: keras.Model, converter: keras.layers.Layer, source: object) -> tuple:
    """A vector for each image, and its label."""
    normalize = Normalize(converter.mean, converter.std)
    how = {"labels": True, "shuffle": False, "drop_remainder": False}
    return extract_features(backbone, Loader(source, 100, normalize=normalize, **how))


def probe(task: MAE) -> float:
    """Accuracy of a linear layer on the frozen features."""
    converter = task.preprocessor.image_converter
    pairs = [*features(task.backbone, converter, train), *features(task.backbone, converter, test)]
    return linear_probe(*pairs, num_classes=10, steps=20 if FAST else 300)


results = {"no training": probe(new_task(PixelTarget()))}
results |= {name: probe(task) for name, task in tasks.items()}
results["the teacher"] = probe(MAE.from_preset(TEACHER))
for name, accuracy in results.items():
    print(f"linear probe, {name}: {accuracy:.1%}")

figure, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
bars = axes.barh(list(results), [100 * value for value in results.values()], color="#0072B2")
axes.bar_label(bars, fmt="%.1f", padding=3)
axes.set(xlabel="linear probe, % of unseen images", xlim=(0, 100))
axes.invert_yaxis()

# %% [markdown]
# ## Reading the result
#
# One run of each, a few hundred steps: differences of a point or two are noise. In our study of the
# same images with more steps and several seeds, [HOG and a teacher's features were ahead of
# pixels by at most two points for the same number of steps, and by nothing in the same
# time](../docs/nano_scaling/report.md). On ImageNet, the COYO paper ([arXiv
# 2305.15248](https://arxiv.org/abs/2305.15248)) finds that large data helps only where the target
# is strong, such as CLIP's features.
#
# A teacher brings knowledge from outside. Comparing a method with a teacher to one without is only
# fair if the teacher's training is counted.
#
# ## Exercise
#
# 1. A teacher that follows the student: `FeatureTarget(EMA(momentum=0.99, end=0.999, steps=300))`
#    from `mimzoo.pretraining`. It starts from nothing. What does its loss do, and why can it not
#    simply become zero?
# 2. Write a target of your own: the mean colour of a patch. A `Target` needs `size`, `targets`,
#    `error` and `pictures`; `mimzoo/pretraining/targets.py` has the shortest example.
