# %% [markdown]
# # SimMIM on Swin V2, and why windows
#
# A masked autoencoder drops what is hidden. A network that looks through windows cannot: its
# windows would have holes. SimMIM (Xie et al., [arXiv
# 2111.09886](https://arxiv.org/abs/2111.09886)) keeps every patch, puts one learned token wherever
# something is hidden, and predicts pixels by a single linear layer. So it works on any network,
# also on Swin V2, whose attention stays inside of small windows.
#
# This guide shows what SimMIM hides, why windows are worth the trouble, and what a patch can see
# through them. Read `guides/masked_image_modeling.py` first. About two minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from mimzoo.layers import MultiHeadAttention, WindowAttention
from mimzoo.layers.windows import Windows
from mimzoo.pretraining import MAE, RandomMasking, SimMIM

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
PRESET = "swinv2_nano_simmim_fmnist_30ep"
NUM_IMAGES = 30 if FAST else 100

test = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=NUM_IMAGES)
images = [test.image(i) for i in range(len(test))]
some = images[:8]


def show(rows: dict, title: str, headings: list | None = None, **how) -> None:
    """Draws rows of images with their names at the left."""
    columns = len(next(iter(rows.values())))
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(columns * 1.2 + 1, len(rows) * 1.25), layout="constrained"
    )
    for (name, pictures), line in zip(rows.items(), np.atleast_2d(grid), strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest", **how)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axes, heading in zip(np.atleast_2d(grid)[0], headings or [], strict=False):
        axes.set_title(heading, fontsize=9)
    figure.suptitle(title)


# %% [markdown]
# ## What SimMIM sees and paints
#
# The bundled network has two stages: 8 x 8 patches of 4 pixels, then 4 x 4 tokens of 8 pixels, each
# merged of four patches. 60 % of the image is hidden.

# %%
task = SimMIM.from_preset(PRESET)
pictures = task.reconstruct(some)
show(
    {"whole": some, "seen": pictures["masked"], "painted": pictures["reconstruction"]},
    "SimMIM on Swin V2",
)
print("stages (rows, columns):", task.backbone.stage_grids)
try:
    MAE(task.backbone)
except ValueError as error:
    print("MAE on the same network:", error)

# %% [markdown]
# ## Mask units
#
# What is hidden are squares, *mask units*. SimMIM uses 32 pixels at 192: there a token of the last
# stage stands for 32 pixels, so no token is half hidden. In our small network that is 8 pixels.
#
# Why not smaller? Because then there is an easy way out: copy the nearest visible pixel. Below is
# the error of this copying, next to that of the network, for units of three sizes. Both are the
# mean distance to the hidden pixels after normalisation, which is SimMIM's loss.


# %%
def copied(x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) whose hidden pixels (N, H, W) are those of the nearest visible one."""
    places = np.stack(np.indices(hidden.shape[1:]), axis=-1).reshape(-1, 2)
    result = x.copy()
    for image, gaps, target in zip(x, hidden, result, strict=True):
        gaps = gaps.ravel()
        known, wanted = places[~gaps], places[gaps]
        nearest = np.square(wanted[:, None] - known[None]).sum(axis=-1).argmin(axis=1)
        target.reshape(-1, target.shape[-1])[gaps] = image[tuple(known[nearest].T)]
    return result


rows, few = {}, task.preprocess(images)
for unit in (4, 8, 16):
    other = SimMIM.from_preset(PRESET, masking=RandomMasking(0.6, mask_patch_size=unit))
    loss = other.evaluate(images, batch_size=50, verbose=0)
    hidden = other.to_image(other.draw(np.arange(len(few)))["masks"])[..., 0]
    copies = copied(few, hidden)
    error = np.abs(copies - few).mean(axis=-1)[hidden].mean()
    print(
        f"units of {unit} pixels: {hidden.mean():.0%} hidden, "
        f"copying {error:.3f}, the network {loss:.3f}"
    )
    pictures = other.reconstruct(some)
    rows |= {f"{unit} px": pictures["masked"], f"copied, {unit}": other.to_pixels(copies[:8])}
    rows[f"painted, {unit}"] = pictures["reconstruction"]
show(rows, "Mask units of three sizes")

# %% [markdown]
# With units of 4 pixels copying is good, so there is little to learn; with 16 it is hopeless, and
# the network has to know what it looks at. The network was trained with units of 8. On smaller ones
# it is worse, even than copying, since it has never seen tokens that are half hidden. (With 16
# pixels there are four units, so three of them are as near to 60 % as it gets.)
#
# ## Why windows
#
# Attention compares each token with each other. An image of twice the side has four times the
# tokens and sixteen times the pairs. In windows of fixed size a token is compared with the others
# in its window only, so cost grows as the image does.

# %%
WINDOW, WIDTH, HEADS = 8, 64, 2
seconds = {"all tokens": [], "windows": []}
SIDES = (8, 16) if FAST else (8, 16, 32, 48)
for side in SIDES:
    tokens = np.random.default_rng(0).normal(size=(1, side, side, WIDTH)).astype("float32")
    tokens = keras.ops.convert_to_tensor(tokens)
    layers = {
        "all tokens": (MultiHeadAttention(WIDTH, HEADS), keras.ops.reshape(tokens, (1, -1, WIDTH))),
        "windows": (WindowAttention(WIDTH, HEADS, (side, side), WINDOW), tokens),
    }
    pairs = {"all tokens": side**4, "windows": side**2 * WINDOW**2}
    for name, (layer, x) in layers.items():
        layer(x)  # creates the weights
        times = []
        for _ in range(3):
            start = time.perf_counter()
            keras.ops.convert_to_numpy(layer(x))
            times.append(time.perf_counter() - start)
        seconds[name].append(min(times))
        ms = 1000 * min(times)
        print(f"{side} x {side} tokens, {name}: {pairs[name]:,} pairs, {ms:.1f} ms")

figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for (name, values), style in zip(seconds.items(), ("-o", "--s"), strict=True):
    axes.plot([side * 4 for side in SIDES], [1000 * v for v in values], style, label=name)
axes.set(xscale="log", yscale="log", xlabel="side of the image in pixels, patches of 4")
axes.set(ylabel="ms for one attention layer")
axes.set_xticks([side * 4 for side in SIDES], [str(side * 4) for side in SIDES])
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend()

# %% [markdown]
# The milliseconds are those of this machine; the pairs are not. For the small images of these
# guides windows gain nothing, since cutting windows costs time, too. At 192 pixels and more, where
# Swin's patches of 4 pixels make thousands of tokens, nothing else is affordable. ViT takes patches
# of 16 pixels instead, so its maps are coarse.
#
# ## What a window sees
#
# In a window, nothing is known of the outside. So every second block shifts its windows by half
# their side (colours below), and between stages four tokens merge into one. What was moved around
# the edge by the shift is kept apart.

# %%
LARGER = 64  # pixels: 16 x 16 patches, so that there are several windows
figure, pair = plt.subplots(1, 2, figsize=(5.6, 3), layout="constrained")
for axes, shifted in zip(pair, (False, True), strict=True):
    windows = Windows((16, 16), 4, shifted)
    rows_of, columns_of = np.divmod(np.arange(256).reshape(16, 16), 16)
    shift = windows.shift
    number = (rows_of + shift) // 4 * 5 + (columns_of + shift) // 4
    axes.imshow(np.random.default_rng(1).permutation(25)[number], cmap="tab20")
    axes.set(xticks=[], yticks=[], title="shifted by 2" if shifted else "not shifted")
figure.suptitle("Windows of 4 x 4 on 16 x 16 patches")

# %% [markdown]
# How far does one patch see after each block? Ask the network: change one patch of the image at a
# time, and look whether the patch in question changes. The network is the bundled one, loaded for
# images of 64 pixels; its windows stay 4 x 4.

# %%
backbone = mimzoo.models.Backbone.from_preset(PRESET, image_shape=(LARGER, LARGER, 3))
blocks = keras.Model(backbone.input, list(backbone.intermediate_outputs))
large = np.asarray(Image.fromarray(some[0]).resize((LARGER, LARGER)))
batch = (large[None] / 127.5 - 1).astype("float32").repeat(257, axis=0)
for patch in range(256):
    row, column = np.divmod(patch, 16) * np.array(4)
    batch[1 + patch, row : row + 4, column : column + 4] += 3
after = [np.asarray(x) for x in blocks.predict(batch, batch_size=64, verbose=0)]

ROW, COLUMN = 6, 6  # the patch in question
seen, headings = [], []
for number, maps in enumerate(after):
    scale = 16 // maps.shape[1]
    token = maps[:, ROW // scale, COLUMN // scale]
    change = np.abs(token[1:] - token[0]).max(axis=1).reshape(16, 16)
    seen.append(change > 0)  # what is outside of the windows changes nothing at all
    headings.append(f"block {number + 1}\nstage {int(np.log2(scale)) + 1}")
    print(f"after block {number + 1}: {seen[-1].sum()} of 256 patches matter")
mark = np.zeros((16, 16))
mark[ROW, COLUMN] = 1
show(
    {"matters": [mark, *seen]},
    "What one patch has seen",
    ["patch", *headings],
    cmap="gray",
    vmin=0,
    vmax=1,
)

# %% [markdown]
# After the first block it is the window; the shifted windows of the second join four of them, and a
# few blocks later the whole image matters. A patch near the edge or in the middle of a shifted
# window sees other parts: try it (exercise 2).
#
# ## Larger images, larger windows
#
# The line `from_preset(PRESET, image_shape=(64, 64, 3))` above changed the image. `window_size=8`
# changes the windows, too: Swin V2 computes what a distance means by a small network (*continuous
# position bias*, Liu et al., [arXiv 2111.09883](https://arxiv.org/abs/2111.09883)), so windows may
# be larger in fine-tuning than they were in pretraining. Swin V1 has a table with one number for
# each distance, which mimzoo resizes.
#
# ## Exercise
#
# 1. Train twice from new weights, with `RandomMasking(0.6, mask_patch_size=4)` and with 8, on the
#    1,000 embedded images for 20 epochs. Measure both losses with units of 8, and a linear probe
#    (`guides/ features.py`). Which one knows more?
# 2. Set `ROW, COLUMN` to a corner. How many blocks does it take to see everything, and why?
# 3. Load the backbone with `window_size=8`. After which block does the patch see all of the image?
