# %% [markdown]
# # Fine-tuning well
#
# A pretrained network and a few labels: what must you do in order not to lose again what
# pretraining gave? This guide takes the usual recipe of fine-tuning apart: layer-wise learning-rate
# decay, drop path, augmentation and an average of the weights, each switched off once.
#
# `guides/few_labels.py` shows what pretraining is worth with few labels, and
# `guides/finetune_your_images.py` fine-tunes on images of your own. A few minutes on two CPU
# cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np

from mimzoo.data import Compose, Loader, RandomCropPad, RandomFlip, open_source, take_subset
from mimzoo.optimizers import LayerDecayAdamW, WarmupCosine

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
PRESET = "vit_nano_mae_fmnist_20ep"
LABELS, EPOCHS = (40, 1) if FAST else (200, 12)
BATCH_SIZE = 20 if FAST else 25

train = open_source("embedded", "train")
test = take_subset(open_source("embedded", "test"), count=50 if FAST else 1000)

# %% [markdown]
# ## The recipe
#
# - **Layer-wise decay** (Clark et al., [arXiv 2003.10555](https://arxiv.org/abs/2003.10555); MAE
#   and SimMIM use it): the deeper a layer lies, the smaller its steps. Edges and textures are
#   learned already; only what they mean is new. A decay of 0.75 gives each block 0.75 of the next
#   one's rate.
# - **Drop path** (Huang et al., [arXiv 1603.09382](https://arxiv.org/abs/1603.09382)): while
#   training, each image skips some branches of some blocks at random. No branch can rely on another
#   to have learned an image by heart.
# - **Augmentation**: each time an image comes up it is shifted a little, or mirrored. A new image
#   for free, as long as the class stays what it is.
# - **EMA**: an exponential moving average of the weights is what is used in the end. The last steps
#   jump about; their mean does not.


# %%
def new_model(drop_path: float = 0.1) -> keras.Model:
    """A classifier of ten classes."""
    return mimzoo.models.ImageClassifier.from_preset(
        PRESET, num_classes=10, drop_path_rate=drop_path
    )


def accuracy(
    layer_decay: float = 0.75,
    drop_path: float = 0.1,
    augment: bool = True,
    ema: bool = True,
    seed: int = 0,
) -> tuple[float, float]:
    """Fine-tunes; returns the accuracy on the labelled images and on unseen ones."""
    keras.utils.set_random_seed(seed)
    model = new_model(drop_path)
    source = take_subset(train, count=LABELS, seed=seed)  # of each class as many
    transform = Compose([RandomCropPad(3), RandomFlip()]) if augment else None
    loader = Loader(source, BATCH_SIZE, transform=transform, labels=True, epochs=None, seed=seed)
    steps = EPOCHS * loader.steps_per_epoch
    rate = WarmupCosine(1e-3, total_steps=steps, warmup_steps=steps // 20)
    average = {"use_ema": True, "ema_momentum": 0.9} if ema else {}
    optimizer = LayerDecayAdamW(model, rate, layer_decay=layer_decay, **average)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(loader, epochs=EPOCHS, verbose=0).history
    unseen = model.evaluate(test, batch_size=100, verbose=0, return_dict=True)
    return history["accuracy"][-1], unseen["accuracy"]


# %% [markdown]
# Two of the four as numbers: the share of the learning rate that each layer gets, and the share of
# the images that skip a branch.

# %%
model = new_model()
print("share of the learning rate:")
for pattern, share in model.backbone.layer_decay_scales(0.75):
    print(f"  {share:.2f}  {pattern}")
rates = [block.drop_path.rate for block in model.backbone.blocks]
print("drop path, block by block:", " ".join(f"{rate:.2f}" for rate in rates))

# %% [markdown]
# And augmentation as pictures: the same image, as it comes up in six epochs.

# %%
transform, random = Compose([RandomCropPad(3), RandomFlip()]), np.random.default_rng(0)
figure, grid = plt.subplots(2, 7, figsize=(8.4, 2.6), layout="constrained")
for number, line in enumerate(grid):
    image = train.image(number)
    epochs = [transform(image, random.random(transform.draws)) for _ in line[1:]]
    for axes, picture in zip(line, [image, *epochs], strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
grid[0, 0].set_title("the image", fontsize=9)
grid[0, 1].set_title("in six epochs", fontsize=9, loc="left")

# %% [markdown]
# ## Each part switched off once
#
# All parts together, then each of them left out, on the same labels. The whole recipe is run with
# two seeds: other first weights of the last layer, another order. What they differ by is chance,
# and no smaller difference means anything.

# %%
VARIANTS = {
    "all parts": {},
    "all parts, another seed": {"seed": 1},
    "no layer decay": {"layer_decay": 1.0},
    "no drop path": {"drop_path": 0.0},
    "no augmentation": {"augment": False},
    "no EMA": {"ema": False},
}
table = {}
for name, change in VARIANTS.items():
    seen, unseen = table[name] = accuracy(**change)
    print(f"{LABELS} labels, {name}: {seen:.0%} of its own images, {unseen:.1%} of unseen ones")

figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
bars = axes.barh(list(table), [100 * unseen for _, unseen in table.values()], color="#56B4E9")
axes.bar_label(bars, fmt="%.1f", padding=2)
axes.set(xlim=(0, 100), xlabel=f"% of unseen images, {LABELS} labels")
axes.invert_yaxis()

# %% [markdown]
# First look at the two seeds. They differ by several points, as much as any part makes, so this
# table does not say that a part helps or harms. To know, one would need several seeds for each row
# and more test images. Read any table of this kind in this way, also in papers.
#
# The accuracy on its own images says more: without augmentation or drop path the network knows its
# 200 images a little better. These parts keep it from learning by heart, which takes much longer
# than a hundred steps. The published recipes, for larger networks and far more steps, have them
# all; here they cost little. The EMA changes little where the rate falls to zero, since the last
# steps hardly move.
#
# So: start from the whole recipe. Spend your time on labels, then on the learning rate, then on
# length, and on the parts of the recipe last.
#
# ## Exercise
#
# 1. Fine-tune on 200 labels for 60 epochs instead of 12. Which parts matter now?
# 2. Freeze the backbone (`model.backbone.trainable = False`) and train the last layer only. From
#    how many labels on is it worth training all?
# 3. Stronger augmentation, as for large networks: `mimzoo.data.finetune_augment(10)` as the
#    loader's `batch_transform`, with `CategoricalCrossentropy(from_logits=True)` and
#    `CategoricalAccuracy`. Does it help with so few steps?
