# %% [markdown]
# # What masked image modeling is
#
# Hide most of an image and let a network paint what is missing. No label is needed, so any image
# will do. To paint a sleeve the network has to see that this is a shirt. What it learns on the way
# is what we want: the painting is thrown away, and the network is fine-tuned on a few labels.
#
# This guide looks at the one number that matters most, the share of the image that is hidden. You
# need to know Keras, and nothing about self-supervised learning. It takes about four minutes on
# two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os

import keras
import matplotlib.pyplot as plt

from mimzoo.data import Loader, Normalize
from mimzoo.downstream import extract_features, linear_probe
from mimzoo.pretraining import MAE, MAEDecoder, RandomMasking

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
EPOCHS = 1 if FAST else 20
NUM_IMAGES = 100 if FAST else 1000
PRESET = "vit_nano_mae_fmnist_20ep"

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Patches
#
# A vision transformer cuts an image into squares, here 7 x 7 patches of 4 x 4 pixels, and treats
# each as a word of a sentence. Hiding is then simple: some words are left out. Here is one image
# with more and more of its patches hidden, chosen at random.

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
# neighbours. With 95 % hidden, two or three patches are left, and nobody could know what was there;
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
# 12 visible patches and now gets 36. But a low loss is not the aim: with little hidden, a network
# can copy from next door and learn nothing about what it sees.
#
# ## Which ratio teaches most?
#
# Train the same small network from scratch with 25, 75 and 95 % hidden. Then freeze it and ask how
# well its features separate the classes: one linear layer is trained on them (a *linear probe*).
# MAE drops hidden patches before the network sees them, so hiding more is faster, too.


# %%
def features(backbone: keras.Model, converter: keras.layers.Layer, source: object) -> tuple:
    """A vector for each image, and its label."""
    normalize = Normalize(converter.mean, converter.std)
    how = {"labels": True, "shuffle": False, "drop_remainder": False}
    return extract_features(backbone, Loader(source, 100, normalize=normalize, **how))


def probe(task: MAE) -> float:
    """Accuracy of a linear layer on the frozen features, on images that it has not seen."""
    converter = task.preprocessor.image_converter
    pairs = [*features(task.backbone, converter, train), *features(task.backbone, converter, test)]
    return linear_probe(*pairs, num_classes=10, steps=20 if FAST else 300)


def new_task(ratio: float) -> MAE:
    """A new network, the same each time."""
    keras.utils.set_random_seed(0)
    depth = 1 if FAST else 4
    backbone = mimzoo.models.ViTBackbone.from_size("nano", image_shape=(28, 28, 3), depth=depth)
    decoder = MAEDecoder(embed_dim=64, depth=1, num_heads=2)
    return MAE(backbone, masking=RandomMasking(ratio), decoder=decoder)


results = {"no training": probe(new_task(0.75))}
for ratio in (0.25, 0.75, 0.95):
    task = new_task(ratio)
    steps = EPOCHS * (NUM_IMAGES // 100)
    rate = mimzoo.optimizers.WarmupCosine(2e-3, total_steps=steps, warmup_steps=steps // 20)
    task.compile(mimzoo.optimizers.AdamW(task, rate))
    history = task.fit(train, batch_size=100, epochs=EPOCHS, verbose=0).history
    results[f"{ratio:.0%} hidden"] = probe(task)
    print(f"{ratio:.0%} hidden: loss {history['loss'][0]:.2f} -> {history['loss'][-1]:.2f}")

for name, accuracy in results.items():
    print(f"linear probe, {name}: {accuracy:.1%}")

# %% [markdown]
# All three networks saw the same images equally often, and no label. Each is better than the
# network that was not trained. A run this short says little about which ratio is best: the
# differences may be smaller than those between two seeds. On ImageNet, trained for 800 epochs,
# the best ratio was found to be about 75 % (He et al., [arXiv
# 2111.06377](https://arxiv.org/abs/2111.06377), figure 5); for text, BERT hides 15 %. Images are
# more redundant than words.

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
bars = axes.barh(list(results), [100 * value for value in results.values()], color="#0072B2")
axes.bar_label(bars, fmt="%.1f", padding=3)
axes.set(xlabel="linear probe, % of unseen images", xlim=(0, 100))
axes.invert_yaxis()

# %% [markdown]
# ## Exercise
#
# 1. Evaluate the network that you trained with 25 % hidden at 25 % and at 75 %, and the one that
#    you trained with 75 % hidden at both. Which one is better where?
# 2. Repeat the last experiment with another seed in `new_task`. By how much do the accuracies move?
#
# Next: `guides/mae_from_scratch.py` builds the method in a hundred lines.
