# %% [markdown]
# # Reading a loss curve
#
# The loss falls, so all is well? Not with few images: a large network learns them by heart, and
# what it learns is of no use for others. This guide trains the same masked autoencoder on 60 and on
# 600 images, a small one beside it, and reads the curves: what overfitting looks like, what makes
# it worse, and what to do. Then it reads the curves of 63 published runs, where the same happens
# with 128,000 images.
#
# Read `guides/masked_image_modeling.py` first. About three minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os
from collections import defaultdict

import keras
import matplotlib.pyplot as plt
import numpy as np

from mimzoo.data import Compose, Loader, RandomCropPad, RandomFlip, open_source, take_subset
from mimzoo.optimizers import AdamW
from mimzoo.pretraining import MAE, MAEDecoder

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
BATCH_SIZE = 30
STEPS = 40 if FAST else 800  # of every run
EVERY = 20 if FAST else 80  # steps between two measurements

train = open_source("embedded", "train")
held_out = take_subset(open_source("embedded", "test"), count=40 if FAST else 200)

# %% [markdown]
# ## Two losses
#
# The *training loss* is measured on the images that the network learns from, the *validation loss*
# on images that it never sees. Both are the error on hidden patches; 1 is what painting every patch
# flat would give. Masks of the validation follow from the image's number, so its curve has no noise
# from masks, and two runs can be compared.
#
# All runs take the same number of steps, with 30 images a step: from 60 images, each is seen ten
# times as often as from 600. The rate is constant, so that each point of a curve is as good as any
# other. (A rate that falls to zero makes all curves bend down at their end.)


# %%
def new_task(width: int, depth: int) -> MAE:
    """A masked autoencoder; patches of 4 x 4 pixels, a quarter visible."""
    keras.utils.set_random_seed(0)
    backbone = mimzoo.models.ViTBackbone(
        image_shape=(28, 28, 3),
        patch_size=4,
        embed_dim=width,
        depth=1 if FAST else depth,
        num_heads=width // 32,
    )
    return MAE(backbone, decoder=MAEDecoder(embed_dim=48, depth=1, num_heads=2))


def pretrain(task: MAE, count: int, augment: bool = False) -> dict:
    """Both losses of a run on so many images, by step: {"steps", "training", "validation"}."""
    source = take_subset(train, count=count)
    transform = Compose([RandomCropPad(3), RandomFlip()]) if augment else None
    loader = Loader(source, BATCH_SIZE, transform=transform, epochs=None)
    every = EVERY // loader.steps_per_epoch  # epochs between two measurements
    task.compile(AdamW(task, 2e-3))
    history = task.fit(
        loader,
        epochs=STEPS // loader.steps_per_epoch,
        validation_data=held_out,
        validation_batch_size=100,
        validation_freq=every,
        verbose=0,
    ).history
    return {
        "steps": list(range(EVERY, STEPS + 1, EVERY)),
        "training": [
            float(np.mean(part)) for part in np.split(np.array(history["loss"]), STEPS // EVERY)
        ],
        "validation": history["val_loss"],
    }


# %% [markdown]
# ## Few images and many, a large network and a small one

# %%
RUNS = {
    "large, 60 images": (96, 4, 60, False),
    "large, 600 images": (96, 4, 600, False),
    "small, 60 images": (32, 2, 60, False),
    "large, 60 images, augmented": (96, 4, 60, True),
}
tasks, curves = {}, {}
for name, (width, depth, count, augment) in RUNS.items():
    tasks[name] = new_task(width, depth)
    curve = curves[name] = pretrain(tasks[name], count, augment)
    best = int(np.argmin(curve["validation"]))
    print(
        f"{name}: {tasks[name].count_params():,} weights, training {curve['training'][-1]:.3f}, "
        f"validation {curve['validation'][-1]:.3f}, "
        f"best {curve['validation'][best]:.3f} after {curve['steps'][best]} steps"
    )


def draw(axes: plt.Axes, names: tuple) -> None:
    """Curves of some runs: solid on unseen images, dashed on the run's own."""
    styles = zip(names, ("#0072B2", "#D55E00"), ("o", "s"), strict=True)
    for name, colour, marker in styles:
        curve = curves[name]
        how = {"color": colour, "marker": marker, "ms": 4}
        axes.plot(curve["steps"], curve["validation"], "-", label=name, **how)
        axes.plot(curve["steps"], curve["training"], "--", alpha=0.6, **how)
    axes.set(xlabel="steps")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


figure, three = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
draw(three[0], ("large, 60 images", "large, 600 images"))
draw(three[1], ("large, 60 images", "small, 60 images"))
draw(three[2], ("large, 60 images", "large, 60 images, augmented"))
for axes, title in zip(three, ("more images", "a smaller network", "augmentation"), strict=True):
    axes.set_title(title)
three[0].set_ylabel("loss on hidden patches")
figure.suptitle("Validation loss (solid) and training loss (dashed)")

# %% [markdown]
# **Left.** With 60 images the training loss falls to the end, but the validation loss turns
# halfway. From there on the network learns these 60 images and nothing else: it *overfits*. The gap
# between the dashed line and the solid one is the first sign, the turn of the solid line is the
# proof. With 600 images, each seen a tenth as often, both lines stay together, and there is more to
# gain.
#
# **Middle.** A small network on the same 60 images cannot learn them by heart as well: its training
# loss is higher, and its validation loss is lower. Larger is not better where images are few.
#
# **Right.** Shifted and mirrored images cost nothing. Learning is slower at first; but the
# validation loss keeps falling where without augmentation it rises, and ends lower.
#
# What to do, in this order: get more images (without labels they are cheap); augment; stop where
# the validation loss is lowest (`keras.callbacks.EarlyStopping`, or
# `ModelCheckpoint(save_best_only=True)`); take a smaller network. And if both lines still fall
# together at the end, train for longer, or take a larger network.
#
# ## What an overfitted network paints
#
# Left, four of its 60 training images; right, four that it never saw.

# %%
own = take_subset(train, count=60)
images = [own.image(i) for i in range(4)] + [held_out.image(i) for i in range(4)]
rows = {}
for name in ("large, 60 images", "large, 600 images"):
    pictures = tasks[name].reconstruct(images)
    rows |= {"image": pictures["original"], "seen": pictures["masked"]}
    rows[name.removeprefix("large, ")] = pictures["reconstruction"]
    own_loss, other_loss = (tasks[name].evaluate(x, verbose=0) for x in (own, held_out))
    print(f"{name}: loss on the 60 images {own_loss:.3f}, on others {other_loss:.3f}")
figure, grid = plt.subplots(4, 8, figsize=(9.6, 5), layout="constrained")
for (name, pictures), line in zip(rows.items(), grid, strict=True):
    for axes, picture in zip(line, pictures, strict=True):
        axes.imshow(picture.mean(axis=-1), cmap="gray", vmin=0, vmax=255)  # they are grey
        axes.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
grid[0, 0].set_title("among the 60 images", loc="left", fontsize=10)
grid[0, 4].set_title("never seen", loc="left", fontsize=10)

# %% [markdown]
# The eye hardly sees what the losses say. The network of 60 images is much better on what it has
# seen than on anything else; for that of 600 the difference is small. So do not judge a run by
# pictures of its own images.
#
# ## The same at full size
#
# Xie et al. ([arXiv 2206.04664](https://arxiv.org/abs/2206.04664)) trained Swin V2 of five sizes
# with SimMIM on parts of ImageNet, three lengths each, and published the validation losses of 63
# runs. mimzoo's catalogue has them. In the titles, images; 500,000 steps of 2,048 images are 8,000
# epochs of the smallest part.

# %%
DATA = {"in1k10": "128,000", "in1k20": "256,000", "in1k50": "641,000", "in1k": "1.28 million"}
SIZES = {"base": "#56B4E9", "large": "#0072B2", "huge": "#E69F00", "giant": "#D55E00"}
table = mimzoo.grid("simmim_data_scaling")
table = table if isinstance(table, list) else table.to_dict("records")
lines = defaultdict(dict)
for row in table:
    if row["loss"] == row["loss"] and row["loss"] is not None:  # not all cells were released
        lines[row["data"], row["size"]][int(row["length"].removesuffix("k"))] = row["loss"]
figure, four = plt.subplots(1, 4, figsize=(11, 3.4), sharey=True, layout="constrained")
for axes, (data, images) in zip(four, DATA.items(), strict=True):
    for (size, colour), marker in zip(SIZES.items(), "osD^", strict=True):
        if line := lines.get((data, size)):
            axes.plot(list(line), list(line.values()), f"-{marker}", color=colour, label=size)
            rises = "rises" if line[500] > line[250] else "falls"
            print(f"{images} images, {size}: {line[250]:.4f} -> {line[500]:.4f}, {rises}")
    axes.set(title=images, xlabel="thousand steps")
    axes.set_xticks([125, 250, 500])
    axes.grid(alpha=0.3)
four[0].set_ylabel("validation loss")
four[3].legend(fontsize=8)

# %% [markdown]
# With 128,000 images the loss rises from 250,000 to 500,000 steps at both sizes that were trained.
# With 1.28 million all sizes fall to the end. In between, size decides: with 641,000 images base
# and large still fall, huge and giant rise. It is how often each image is seen that matters, and by
# a network of which size; the number of images alone says nothing.
#
# Validation loss is worth watching: over these runs it predicts the accuracy after fine-tuning
# ([report](../docs/simmim_data_scaling/report.md)).
#
# ## Exercise
#
# 1. Hide 90 % instead of 75 % (`RandomMasking(0.9)`). Does the large network overfit 60 images
#    later? A mask is augmentation, too.
# 2. Run the small network for 4,000 steps. Does its validation loss rise in the end?
# 3. Take the features of the two large networks (`guides/features.py`) and measure kNN with 1,000
#    labels. Does the lower validation loss know more?
