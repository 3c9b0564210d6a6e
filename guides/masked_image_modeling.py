# %% [markdown]
# # What masked image modeling is
#
# Hide most of an image and let a network paint what is missing. No label is needed, so any image
# will do. To paint a sleeve the network has to see that this is a shirt. What it learns on the way
# is what we want: the painting is thrown away, and the network is fine-tuned on a few labels.
#
# This guide looks at one network that learned in this way: what it sees, what it paints, and what
# it knows. You need to know Keras, and nothing about self-supervised learning. It takes about
# two minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np

from mimzoo.data import Loader, Normalize
from mimzoo.downstream import extract_features, linear_probe
from mimzoo.pretraining import MAE, RandomMasking

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
PROBE_STEPS = 20 if FAST else 500
NUM_IMAGES = 100 if FAST else 1000
PRESET = "vit_nano_mae_fmnist_20ep"

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Patches
#
# A vision transformer cuts an image into squares, here 7 x 7 patches of 4 x 4 pixels, and treats
# each as a word of a sentence. Hiding is then simple: some words are left out. Here are eight
# images with more and more of their patches hidden, chosen at random.

# %%
train = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "train"), count=NUM_IMAGES)
test = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=3 * NUM_IMAGES)
RATIOS = (0.25, 0.5, 0.75, 0.9, 0.95)


# The bundled model, with another share hidden each time.
tasks = {ratio: MAE.from_preset(PRESET, masking=RandomMasking(ratio)) for ratio in RATIOS}


def show(rows: dict, title: str) -> None:
    """Draws rows of images with their names at the left."""
    columns = len(next(iter(rows.values())))
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(columns * 1.2, len(rows) * 1.25), layout="constrained"
    )
    for (name, images), line in zip(rows.items(), grid, strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    figure.suptitle(title)


some = [test.image(i) for i in range(8)]
painted = {ratio: task.reconstruct(some) for ratio, task in tasks.items()}
show(
    {"whole": some} | {f"{ratio:.0%}": painted[ratio]["masked"] for ratio in RATIOS},
    "What the network sees, by the share that is hidden",
)

# %% [markdown]
# ## Painting
#
# The model that comes with mimzoo was trained with 75 % hidden (a masked autoencoder, MAE). It has
# never seen these images. With a quarter hidden the task is easy: each gap can be filled from its
# neighbours. With 95 % hidden, two patches are left, and nobody could know what was there;
# the model paints a blurred average.

# %%
show(
    {"whole": some} | {f"{ratio:.0%}": painted[ratio]["reconstruction"] for ratio in RATIOS},
    "What it paints",
)

# %% [markdown]
# ## Measuring it
#
# The loss is the mean squared error on the hidden patches. Each patch is normalised first: its mean
# is taken away and it is divided by its standard deviation. So 1 is what you get by painting every
# patch flat, and 0 is perfect. Normalising makes the network care about edges and texture, not
# about brightness.
#
# Masks of an evaluation follow from the image's number alone, so this is one number for a model,
# whatever the batch size or the machine.

# %%
images = [test.image(i) for i in range(100 if FAST else 1000)]
for ratio, task in tasks.items():
    loss = task.evaluate(images, batch_size=100, verbose=0)
    print(f"{ratio:.0%} hidden: loss {loss:.3f}")

# %% [markdown]
# From 50 % on, more hidden is harder. 25 % is no easier for this network, since it was trained with
# 12 visible patches and now gets 36.
#
# ## What the network has learned
#
# A low loss is not the aim: with little hidden, a network can copy from next door and learn nothing
# about what it sees. The aim is features. So freeze the network, take one vector for each image,
# and train a single linear layer on the vectors to separate the ten classes (a *linear probe*). If
# that works well, the network has sorted the images, though no one named the classes.
#
# Beside it the same network with random weights. A random network is no bad start for small grey
# pictures: its features are like random filters.


# %%
def features(task: MAE, source: object) -> tuple:
    """A vector for each image, and its label."""
    converter = task.preprocessor.image_converter
    normalize = Normalize(converter.mean, converter.std)
    how = {"labels": True, "shuffle": False, "drop_remainder": False}
    return extract_features(task.backbone, Loader(source, 100, normalize=normalize, **how))


trained = tasks[0.75]
new = MAE(mimzoo.models.ViTBackbone.from_size("nano", image_shape=(28, 28, 3)))
results = {}
for name, task in {"random weights": new, "pretrained": trained}.items():
    pairs = [*features(task, train), *features(task, test)]
    results[name] = linear_probe(*pairs, num_classes=10, steps=PROBE_STEPS)
    print(f"linear probe, {name}: {results[name]:.1%} of unseen images are right")

# %% [markdown]
# ## What the features see
#
# Each patch has a vector, too. Below, the three directions in which the patches' vectors differ
# most are shown as red, green and blue. Things of one kind look alike: both shoes, both pairs of
# trousers, the tops. The network has sorted them without a label. It also keeps where a patch was,
# which shows as columns and rows.

# %%
batch = trained.preprocess(some)
maps = np.asarray(trained.backbone.feature_map(trained.backbone.predict(batch, verbose=0)))
vectors = maps.reshape(-1, maps.shape[-1])
vectors = vectors - vectors.mean(axis=0)
_, _, directions = np.linalg.svd(vectors, full_matrices=False)
colours = vectors @ directions[:3].T
colours = (colours - colours.min(axis=0)) / (colours.max(axis=0) - colours.min(axis=0))
show({"whole": some, "features": colours.reshape(*maps.shape[:3], 3)}, "Colours of the patches")

# %% [markdown]
# ## Which share to hide
#
# On ImageNet, trained for 800 epochs, about 75 % was best for MAE; fine-tuning hardly minds
# anything from 40 % to 80 % (He et al., [arXiv 2111.06377](https://arxiv.org/abs/2111.06377),
# figure 5). For text, BERT hides 15 %: images are more redundant than words. MAE also drops hidden
# patches before the network sees them, so hiding more is faster.
#
# ## Exercise
#
# 1. Probe the pretrained network with fewer labels: `take_subset(train, count=100)`. By how much
#    does each of the two networks lose?
# 2. Pretrain with another share hidden: `mimzoo pretrain vit_nano_mae_fmnist_5ep --mask-ratio 0.5
#    --data fashion_mnist --workdir runs/half` (the bundled model has 20 epochs). Evaluate it at
#    50 % and at 75 %, beside the bundled model. Which one is better where?
#
# Next: `guides/mae_from_scratch.py` builds the method in a hundred lines.
