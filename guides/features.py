# %% [markdown]
# # What features know
#
# A network that was trained by painting hidden patches has never seen a label. Does it know what a
# shoe is? This guide takes the networks that come with mimzoo, freezes them, and looks at their
# features in four ways: nearest neighbours, a linear probe, colours of patches, and attention. None
# of them trains the network, so they take seconds, and they show what pretraining has taught before
# you spend hours on fine-tuning.
#
# Read `guides/masked_image_modeling.py` first. About two minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from mimzoo.downstream import extract_features, knn_accuracy, linear_probe
from mimzoo.pretraining import MIMTask

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
NUM_IMAGES = 100 if FAST else 1000
NUM_TEST = 100 if FAST else 2000
PROBE_STEPS = 20 if FAST else 500

keras.utils.set_random_seed(0)


def show(rows: dict, title: str, headings: list | None = None, **how) -> None:
    """Draws rows of images with their names at the left."""
    columns = max(map(len, rows.values()))
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(columns * 1.15 + 1, len(rows) * 1.25), layout="constrained"
    )
    for (name, images), line in zip(rows.items(), np.atleast_2d(grid), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, interpolation="nearest", **how)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axes, heading in zip(np.atleast_2d(grid)[0], headings or [], strict=False):
        axes.set_title(heading, fontsize=9)
    figure.suptitle(title)


# %% [markdown]
# ## Four networks
#
# All were pretrained on the 60,000 training images of Fashion-MNIST, without labels. Beside each
# method the same network with random weights: what a network can do without training is no merit of
# the method. Random filters followed by averaging are no bad features for small grey pictures.

# %%
PRESETS = {
    "MAE": "vit_nano_mae_fmnist_20ep",
    "SimMIM": "swinv2_nano_simmim_fmnist_30ep",
    "MixMIM": "mixmim_nano_fmnist_10ep",
    "MAE, target: features": "vit_nano_mae-features_fmnist_5ep",
}
tasks = {name: MIMTask.from_preset(preset) for name, preset in PRESETS.items()}
untrained = {
    name: MIMTask.from_preset(preset, load_weights=False)
    for name, preset in PRESETS.items()
    if name != "MAE, target: features"  # the same network as MAE's
}
for name, task in tasks.items():
    backbone = task.backbone
    print(f"{name}: a {type(backbone).__name__} of {backbone.count_params():,} weights")

train = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "train"), count=NUM_IMAGES)
test = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=NUM_TEST)
train_images, test_images = ([s.image(i) for i in range(len(s))] for s in (train, test))


def vectors(task: MIMTask, images: list) -> np.ndarray:
    """The mean over an image's patches: (N, D)."""
    batches = (task.preprocess(images[i : i + 100]) for i in range(0, len(images), 100))
    return extract_features(task.backbone, batches)[0]


# %% [markdown]
# ## Nearest neighbours
#
# The simplest question: which images does the network take for similar? Each image becomes a
# vector, and for a test image we look up the training images whose vectors point in the most
# similar direction. *kNN* lets the 20 nearest vote for the class. Nothing is trained at all.
#
# A *linear probe* trains one linear layer on the frozen vectors. It may weigh the numbers of a
# vector, which kNN cannot, so it finds knowledge that is there but drowned by other things.

# %%
known = {
    **{(name, "pretrained"): task for name, task in tasks.items()},
    **{(name, "random"): task for name, task in untrained.items()},
}
features, results = {}, {}
for key, task in known.items():
    pair = features[key] = vectors(task, train_images), vectors(task, test_images)
    data = (pair[0], train.labels, pair[1], test.labels)
    results[key] = {
        "kNN": knn_accuracy(*data, num_classes=10),
        "linear probe": linear_probe(*data, num_classes=10, steps=PROBE_STEPS),
    }
    numbers = ", ".join(f"{kind} {value:.1%}" for kind, value in results[key].items())
    print(f"{key[0]}, {key[1]} weights: {numbers}")

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for row, name in enumerate(tasks):
    for kind, marker, shift in (("kNN", "o", -0.12), ("linear probe", "s", 0.12)):
        for weights, colour in (("random", "#D55E00"), ("pretrained", "#0072B2")):
            key = (name if (name, weights) in results else "MAE", weights)
            label = f"{kind}, {weights}" if row == 0 else None
            value = 100 * results[key][kind]
            axes.plot(value, row + shift, marker, color=colour, label=label)
axes.set_yticks(range(len(tasks)), tasks)
axes.set(xlabel=f"% of {NUM_TEST:,} unseen images, {NUM_IMAGES:,} labels")
axes.invert_yaxis()
axes.grid(axis="x", alpha=0.3)
figure.legend(loc="outside right center", fontsize=8)

# %% [markdown]
# Each pretrained network is ahead of itself with random weights, by kNN and by the probe. With
# another choice of labels the numbers move by a point or two, so differences between the methods of
# that size mean nothing here.
#
# Numbers hide what is confused. Look at the neighbours themselves. A red frame is a neighbour of
# another class.


# %%
def neighbours(key: tuple, chosen: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the training images that are nearest to some test images: (images, count)."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in features[key]]
    return np.argsort(-unit[1][chosen] @ unit[0].T, axis=1)[:, :count]


def framed(image: np.ndarray, right: bool) -> np.ndarray:
    """The image with a border: grey if it is right, red if not."""
    padded = np.full((image.shape[0] + 4, image.shape[1] + 4, 3), 200, "uint8")
    padded[:] = (200, 200, 200) if right else (220, 40, 30)
    padded[2:-2, 2:-2] = image
    return padded


labels = ("Pullover", "Shirt", "Sneaker", "Bag")
chosen = np.array([np.flatnonzero(test.labels == test.class_names.index(n))[0] for n in labels])
rows = {}
for number, name in zip(chosen, labels, strict=True):
    for title, key in {"random": ("MAE", "random"), "MAE": ("MAE", "pretrained")}.items():
        nearest = neighbours(key, chosen, 8)[list(chosen).index(number)]
        line = [framed(train_images[i], train.labels[i] == test.labels[number]) for i in nearest]
        rows[f"{name}\n{title}"] = [framed(test_images[number], True), *line]
        right = int((train.labels[nearest] == test.labels[number]).sum())
        print(f"{name}, {title}: {right} of 8 are of its class")
show(rows, "The eight nearest training images", ["test image", *map(str, range(1, 9))])

# %% [markdown]
# Where random weights find shoes that are as bright as the bag, MAE finds bags with handles. It is
# not always ahead: to the eye its mistakes are things of a similar outline, such as sandals for the
# sneaker. Tops are hard for both.
#
# ## Which layer knows most
#
# The last layers of a network serve its task, which was painting, so the best features may lie
# before them. A backbone gives what each of its blocks made, as `intermediate_outputs`.

# %%
for weights, task in {"random": untrained["MAE"], "pretrained": tasks["MAE"]}.items():
    backbone = task.backbone
    maps = map(backbone.feature_map, backbone.intermediate_outputs)
    layers = keras.Model(backbone.input, [ops.mean(x, axis=(1, 2)) for x in maps])
    by_layer = []
    for images in (train_images, test_images):
        parts = [
            layers.predict_on_batch(task.preprocess(images[i : i + 100]))
            for i in range(0, len(images), 100)
        ]
        by_layer.append([np.concatenate(layer) for layer in zip(*parts, strict=True)])
    scores = [
        knn_accuracy(a, train.labels, b, test.labels, num_classes=10)
        for a, b in zip(*by_layer, strict=True)
    ]
    print(f"kNN after each block, {weights}:", " ".join(f"{s:.1%}" for s in scores))

# %% [markdown]
# The trained network knows more with each of its first blocks, and then keeps what it has: here
# MAE's decoder does the painting, so the encoder need not. In SimMIM, whose decoder is one linear
# layer, try it (exercise 3). Random blocks add almost nothing.
#
# ## Colours of patches
#
# So far a whole image was one vector. But each patch has its own. The three directions in which
# patches differ most (a principal component analysis, PCA) become red, green and blue: patches with
# one colour are the same thing to the network. Patches also know where they are, which would colour
# every picture in the same way; so from each patch we take away the mean of all patches at its
# place.


# %%
def colours(task: MIMTask, count: int) -> np.ndarray:
    """PCA of the patches' features as RGB: (count, rows, columns, 3)."""
    batch = task.preprocess(test_images[:200])
    maps = np.asarray(task.backbone.feature_map(task.backbone.predict(batch, verbose=0)))
    maps = maps - maps.mean(axis=0)
    flat = maps.reshape(-1, maps.shape[-1])
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    strengths = maps[:count] @ directions[:3].T
    low, high = np.percentile(flat @ directions[:3].T, (2, 98), axis=0)
    return np.clip((strengths - low) / (high - low), 0, 1)


few = 10
show(
    {
        "image": test_images[:few],
        "random ViT": colours(untrained["MAE"], few),
        "MAE": colours(tasks["MAE"], few),
        "SimMIM": colours(tasks["SimMIM"], few),
        "MixMIM": colours(tasks["MixMIM"], few),
    },
    "What is alike to the network has one colour",
)

# %% [markdown]
# SimMIM's and MixMIM's networks halve their resolution on the way, so their maps are 4 x 4. The
# colours of the random network follow brightness: tops of one kind differ. In the trained networks
# trousers have one set of colours, tops another, shoes a third.
#
# ## Attention
#
# Attention is where a patch looks: for each patch and each head a share of 1, spread over all
# patches. The network does not keep it, but it is quickly made again from queries and keys. The
# line at the end compares what we made with what the layer computes.


# %%
def attention_maps(backbone: keras.Model, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Shares (blocks, B, heads, T, T), and how far they are from what the layers compute."""
    x = backbone.prepare(backbone.embed(ops.convert_to_tensor(images)))
    shares, difference = [], 0.0
    for block in backbone.blocks:
        attention, tokens = block.attention, block.norm1(x)
        qkv = ops.convert_to_numpy(attention.project(tokens))
        qkv = qkv.reshape(*qkv.shape[:2], 3, attention.num_heads, -1)
        query, key, value = np.moveaxis(qkv, 2, 0)
        logits = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares.append(weights / weights.sum(axis=-1, keepdims=True))
        ours = np.einsum("bhqk,bkhd->bqhd", shares[-1], value).reshape(tokens.shape)
        ours = attention.projection(ops.convert_to_tensor(ours))
        theirs = ops.convert_to_numpy(attention(tokens))
        difference = max(difference, np.abs(ops.convert_to_numpy(ours) - theirs).max())
        x = block(x)
    return np.stack(shares), float(difference)


attention = {}
for weights, task in {"random": untrained["MAE"], "pretrained": tasks["MAE"]}.items():
    batch = task.preprocess(test_images[:100])
    attention[weights], difference = attention_maps(task.backbone, batch)
    print(
        f"{weights}: attention (blocks, images, heads, tokens, tokens) {attention[weights].shape}"
    )
    print(f"{weights}: at most {difference:.0e} from what the layers compute")

# %% [markdown]
# Below, one patch of a shoe asks (white frame), and each block answers: the brighter, the more the
# patch looks there, as the mean over the heads. The first token is the class token, which is no
# place in the image; it is left out.

# %%
shoe = int(np.flatnonzero(test.labels[:100] == test.class_names.index("Ankle boot"))[0])
row, column = 4, 1  # of the asking patch
marked = test_images[shoe].copy()
marked[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4][[0, -1]] = 255
marked[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4][:, [0, -1]] = 255
rows = {}
for weights, shares in attention.items():
    asked = shares[:, shoe, :, 1 + row * 7 + column, 1:].mean(axis=1).reshape(-1, 7, 7)
    rows[weights] = [marked, *(a / a.max() for a in asked)]
show(rows, "Where one patch looks", ["asks", *(f"block {n}" for n in range(1, 7))], cmap="magma")

heads = attention["pretrained"][:, shoe, :, 1 + row * 7 + column, 1:].reshape(6, -1, 7, 7)
show(
    {f"block {n + 1}": [h / h.max() for h in heads[n]] for n in (0, 2, 5)},
    "The heads of the trained network apart",
    [f"head {n}" for n in range(1, 5)],
    cmap="magma",
)

# %% [markdown]
# How far does a patch look on average? Without any preference, it would look at all places alike.

# %%
places = np.stack(np.divmod(np.arange(49), 7), axis=-1) * 4.0  # pixels
distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
print(f"all patches alike: {distances.mean():.1f} pixels")
figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
for (weights, shares), style in zip(attention.items(), ("--s", "-o"), strict=True):
    among = shares[..., 1:, 1:]
    among = among / among.sum(axis=-1, keepdims=True)
    far = (among * distances).sum(axis=-1).mean(axis=(1, 3))  # (blocks, heads)
    print(f"{weights}, by block:", " ".join(f"{f:.1f}" for f in far.mean(axis=1)))
    colour = "#0072B2" if weights == "pretrained" else "#D55E00"
    axes.plot(range(1, 7), far.mean(axis=1), style, color=colour, label=f"{weights}, mean")
    axes.plot(range(1, 7), far, ".", color=colour, alpha=0.5)
axes.axhline(distances.mean(), color="grey", lw=1, ls=":", label="all patches alike")
axes.set(xlabel="block", ylabel="pixels", title="How far a patch looks (a dot is a head)")
axes.legend(fontsize=8)
axes.grid(alpha=0.3)

# %% [markdown]
# A random network looks at what is as bright as the patch that asks, near or far. The trained one
# looks nearer, in some heads much more than in others: what is next to a gap says most about it.
#
# ## Which measure to trust
#
# - **kNN** has nothing to tune, so it is a good number to watch during pretraining
#   (`mimzoo.downstream.FeatureProbe` does so in `fit`).
# - The **linear probe** is the usual number of papers. Features of masked image modeling are less
#   linear than those of contrastive learning, and are better than the probe says once fine-tuned
#   (He et al., [arXiv 2111.06377](https://arxiv.org/abs/2111.06377), section 4.3).
# - **Fine-tuning** is what you want in the end, and costs most: `guides/fine_tuning_well.py`.
#
# ## Exercise
#
# 1. `extract_features(..., pooling="token")` takes the class token instead of the mean over
#    patches. No loss ever asked anything of it. How good is it?
# 2. Ask from another patch of the shoe, and from one of the background. Where do they look?
# 3. Measure kNN after each block of SimMIM's network. Which block knows most?
# 4. Give kNN 100 labels instead of 1,000 (`take_subset(train, count=100)`). Which loses more, kNN
#    or the probe?
