# %% [markdown]
# # What to predict: pixels, edges or features
#
# A network of masked image modeling predicts what is hidden, but as what? As pixels, it spends much
# of its effort on textures that no one could guess. So others predict edges, or what a trained
# network makes of the whole image. This guide trains one small network towards each of four
# targets, shows what it should predict and what it does, and compares them by the results of longer
# runs.
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

from mimzoo.pretraining import MAE, FeatureTarget, HOGTarget, MAEDecoder, PixelTarget, Target

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
EPOCHS = 1 if FAST else 10
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
# three strongest directions are shown as red, green and blue. After a hundred steps the predictions
# are little more than averages.

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
# ## Which target teaches most
#
# A few hundred steps teach too little to compare. But the catalogue has results of longer runs: the
# study `nano_scaling` trained a ViT of width 64 towards these four targets, on all 60,000 images of
# Fashion-MNIST, for 500 and 2,000 steps. `mimzoo.grid` gives its table; numbers are means over
# seeds. Each network was then fine-tuned on 1,000 labels, or probed: frozen, with one linear layer.

# %%
METHODS = {"mae-pixels": "pixels", "mae": "normalised patches", "mae-hog": "HOG"}
METHODS["mae-features"] = "teacher's features"
table = mimzoo.grid("nano_scaling")
rows = table if isinstance(table, list) else table.to_dict("records")
rows = [row for row in rows if row["size"] == "w64" and row["data"] == "fmnist"]
measured = {(METHODS[row["method"]], row["length"]): row for row in rows}
for name in METHODS.values():
    for length in ("500it", "2000it"):
        row = measured[name, length]
        tuned, probed = row["finetune_1000"], row["probe_100"]
        print(f"{name}, {length}: fine-tuned {tuned:.1%}, linear probe on 100 labels {probed:.1%}")

figure, pair = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for axes, key in zip(pair, ("finetune_1000", "probe_100"), strict=True):
    for offset, (length, hatch) in enumerate({"500it": "//", "2000it": ""}.items()):
        places = np.arange(len(METHODS)) + 0.4 * offset
        values = [100 * measured[name, length][key] for name in METHODS.values()]
        bars = axes.barh(places, values, 0.38, hatch=hatch, color="#56B4E9", label=length)
        axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.set(xlim=(0, 100), xlabel="% of unseen images")
    axes.set_yticks(np.arange(len(METHODS)) + 0.2, METHODS.values())
pair[0].set_title("fine-tuned on 1,000 labels")
pair[1].set_title("linear probe on 100 labels")
pair[0].invert_yaxis()
pair[1].legend(loc="center right", fontsize=8)

# %% [markdown]
# ## Reading the result
#
# With few labels a stronger target helps most: HOG and features are ahead of pixels when the
# network is frozen. Fine-tuned, the differences shrink to a point or two, and a step towards
# features costs more, since the teacher runs as well: in the same time, [nothing was
# gained](../docs/nano_scaling/report.md). On ImageNet and COYO, Lu et al. ([arXiv
# 2305.15248](https://arxiv.org/abs/2305.15248)) find that large data helps only where the target is
# strong, such as CLIP's features.
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
