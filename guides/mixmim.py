# %% [markdown]
# # MixMIM: mixing two images, and unmixing them
#
# SimMIM fills its gaps with a token that says nothing: more than half of what the network computes
# on is empty. MAE leaves the gaps out, which a network with windows cannot. MixMIM (Liu et al.,
# [arXiv 2205.13137](https://arxiv.org/abs/2205.13137)) fills the gaps of one image with patches of
# another. Nothing is empty, nothing is left out, and the network has to reconstruct both images.
#
# This guide shows mixtures, what the bundled network makes of them, and the rule that keeps the two
# images apart inside of the network. Read `guides/masked_image_modeling.py` first; windows are in
# `guides/simmim_and_windows.py`. About a minute on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from mimzoo.pretraining import MixMasking, MixMIM

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
PRESET = "mixmim_nano_fmnist_10ep"
NUM_IMAGES = 40 if FAST else 400

keras.utils.set_random_seed(0)
test = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=NUM_IMAGES)
images = [test.image(i) for i in range(len(test))]
some = images[:8]


def show(rows: dict, title: str) -> None:
    """Draws each row of pictures as one strip, with its name at the left."""
    figure, lines = plt.subplots(len(rows), figsize=(9.6, 1.2 * len(rows)), layout="constrained")
    for axes, (name, pictures) in zip(lines, rows.items(), strict=True):
        frame = [(1, 1), (1, 1), (0, 0)][: pictures.ndim - 1]
        strip = np.hstack([np.pad(p, frame, constant_values=pictures.max()) for p in pictures])
        axes.imshow(strip, cmap="gray", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle(title)


# %% [markdown]
# ## Mixing
#
# Neighbours in a batch are partners: the first with the second, the third with the fourth. Half of
# the squares of 8 pixels, chosen at random for each pair, show the partner. Both images of a pair
# have the same mask, so that what one mixture leaves out, the other one shows.

# %%
task = MixMIM.from_preset(PRESET)
pictures = task.reconstruct(some)
masks = pictures["masks"].reshape(-1, 8, 8)
show(
    {
        "image": pictures["original"],
        "partner": pictures["partner"],
        "mask": masks.repeat(4, axis=1).repeat(4, axis=2),
        "mixture": pictures["masked"],
    },
    "Mixtures (in the mask, bright squares show the partner)",
)
shown = np.stack([1 - masks[0], masks[1]])  # of the first image, in its own and the other mixture
print("how often the first image's patches are shown by both mixtures:", np.unique(shown.sum(0)))

# %% [markdown]
# Each patch of each image is shown exactly once by the two mixtures of a pair, and hidden exactly
# once. So each patch is predicted once, and the loss is the mean over all of them.
#
# ## Unmixing
#
# From one mixture, two images. The decoder takes what belongs to the first image, puts a mask token
# at each place of the other, and paints; then the same for the second.

# %%
show(
    {
        "mixture": pictures["masked"],
        "image": pictures["original"],
        "painted": pictures["reconstruction"],
        "partner": pictures["partner"],
        "painted,\npartner": pictures["partner_reconstruction"],
    },
    "Two reconstructions of each mixture",
)
loss = task.evaluate(images, batch_size=20, verbose=0)
print(f"loss on {len(images)} images: {loss:.3f} (1: each position painted flat)")

# %% [markdown]
# ## What the step is spent on
#
# The three methods, by the share of the encoder's tokens that show an image, and the share of an
# image's area that a step predicts.

# %%
METHODS = {
    "MAE, 75 % hidden": (1.0, 0.75),  # only visible patches are encoded
    "SimMIM, 60 % hidden": (0.4, 0.6),  # the rest are mask tokens
    "MixMIM, 50 % of each": (1.0, 1.0),
}
for name, (real, predicted) in METHODS.items():
    print(f"{name}: {real:.0%} of the tokens show an image, {predicted:.0%} of it is predicted")

# %% [markdown]
# ## Keeping two images apart
#
# A mixture would be an easy riddle if the network could compare: a patch of a shoe between patches
# of a shirt stands out. And in fine-tuning there are no mixtures. So attention stays among the
# tokens of one image: to the logits of a pair from two images a huge negative number is added, and
# after the softmax nothing is left of it.
#
# Below, the 8 x 8 patches of the first mixture and, of its first block, which token may look at
# which: 64 rows for the tokens that look, 64 columns for those that are seen.

# %%
block = task.backbone.stages[0][0]
sources = masks[:1]  # 1 = of the partner
allowed = ops.convert_to_numpy(block.attention.group_mask(ops.convert_to_tensor(sources))) == 0
figure, pair = plt.subplots(1, 2, figsize=(6.4, 3.2), layout="constrained")
pair[0].imshow(sources[0], cmap="coolwarm")
pair[0].set_title("which image a patch is of")
pair[1].imshow(allowed[0, 0, 0], cmap="gray")
pair[1].set_title("which token may see which")
for axes in pair:
    axes.set(xticks=[], yticks=[])
print(f"{allowed.mean():.0%} of the pairs are allowed")

# %% [markdown]
# Is it so in the whole network? Change one patch of the first image and look which of the 4 x 4
# results change: once with the rule, once without (`encode` without sources, as in fine-tuning).

# %%
batch = task.preprocess(some[:2])
mixture = np.where(masks[0].repeat(4, 0).repeat(4, 1)[..., None], batch[1], batch[0])
row, column = np.argwhere(masks[0] == 0)[0]  # a patch that shows the first image
changed = mixture.copy()
changed[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 1
tokens = task.backbone.embed(ops.convert_to_tensor(np.stack([mixture, changed])))
of_partner = masks[0, ::2, ::2].astype(bool)  # of the results, each of 2 x 2 patches
effect = {}
for name, kept_apart in {"kept apart": True, "not kept apart": False}.items():
    given = ops.convert_to_tensor(masks[:1].reshape(1, -1).repeat(2, 0)) if kept_apart else None
    results = ops.convert_to_numpy(task.backbone.encode(tokens, given, training=False))
    change = np.abs(results[1] - results[0]).max(axis=-1).reshape(4, 4)
    effect[name] = change
    own, other = (change[~of_partner] > 1e-6).sum(), (change[of_partner] > 1e-6).sum()
    print(f"{name}: {own} results of the same image change, {other} of the other image")
touched = np.zeros((4, 4))
touched[row // 2, column // 2] = 1
panels = {"of the partner": of_partner, "changed": touched}
panels |= {name: np.sqrt(change / change.max()) for name, change in effect.items()}
figure, axes = plt.subplots(1, 4, figsize=(6, 1.9), layout="constrained")
for panel, (name, values) in zip(axes, panels.items(), strict=True):
    panel.imshow(values, cmap="gray")
    panel.set(xticks=[], yticks=[])
    panel.set_title(name, fontsize=9)
figure.suptitle("What one changed patch changes")

# %% [markdown]
# With the rule the partner's results do not notice. That is also why the squares are as large as a
# token of the last stage: a smaller square would mix two images inside of one token.
#
# ## More of one, less of the other
#
# Half and half is what the paper uses. With another ratio the two mixtures of a pair are unequal:
# with a quarter, one mixture shows three quarters of its own image, and the other a quarter.

# %%
for ratio in (0.25, 0.5, 0.75):
    other = MixMIM.from_preset(PRESET, masking=MixMasking(ratio, mask_patch_size=8))
    print(
        f"{ratio:.0%} of the partner: loss {other.evaluate(images, batch_size=20, verbose=0):.3f}"
    )

# %% [markdown]
# Each patch is still predicted once, but three quarters of them from the mixture that shows a
# quarter of their image. That is harder, whichever way the ratio is off, and this network was
# trained at one half.
#
# ## Exercise
#
# 1. Any two images can be partners. Is a shoe easier to unmix from a shirt than from a shoe? Give
#    `reconstruct` pairs of one class and pairs of two, and compare the errors of "reconstruction"
#    with "original".
# 2. MixMIM works on Swin and Swin V2, too: `MixMIM(mimzoo.models.SwinV2Backbone.from_size("nano",
#    image_shape=(32, 32, 3)))`. What do shifted windows change about the picture of allowed pairs?
# 3. The paper adds a learned vector that says which image a token is of; no public code has it.
#    `MixMIM(backbone, mixing_embedding=True)` does. Train both for 300 steps and compare.
