# %% [markdown]
# # Segmentation: a class for each pixel
#
# A classifier says what is in an image, a *segmenter* says where: it gives each pixel a class. The
# backbone is the same; a *head* turns its features into a map. This guide makes a folder of images
# and label maps, trains a simple and a stronger head on a pretrained backbone and on random
# weights, measures them, and applies one to a larger image.
#
# Read `guides/masked_image_modeling.py` first. [The page on segmentation](../docs/segmentation.md)
# has all options. A few minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os
import shutil
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from mimzoo.data import Compose, Loader, RandomFlip, RandomScaleCrop, open_label_maps, open_source
from mimzoo.models import ImageSegmenter
from mimzoo.optimizers import WarmupCosine

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
PRESET = "vit_nano_mae_fmnist_20ep"  # MAE on Fashion-MNIST, bundled with mimzoo
NUM_TRAIN, NUM_VALIDATION = (8, 2) if FAST else (160, 20)
EPOCHS, BATCH_SIZE = (1, 8) if FAST else (16, 16)
LARGE = (1, 1) if FAST else (3, 5)  # rows and columns of the larger image
WINDOW = 28  # pixels: the size of the images that the preset was trained on
FOLDER = Path("runs/clothes")

# %% [markdown]
# ## A folder of images and label maps
#
# A *label map* is a picture of the image's size whose pixels are class numbers. Usually people draw
# them, which is slow. We make ours from the bundled images: clothes of Fashion-MNIST, side by side
# on black. The bright pixels belong to the piece, and its class is known.
#
# Where exactly does a dark shoe end? Nobody can say. Such pixels usually get a number of their own,
# here 5, which is no class: they count in no loss and in no metric.

# %%
CLASSES = ("background", "top", "trousers", "shoe", "bag")
EDGE = 5
CLASS_OF = {0: 1, 2: 1, 4: 1, 6: 1, 1: 2, 5: 3, 7: 3, 9: 3, 8: 4}  # Fashion-MNIST's number: ours


def collage(
    source: mimzoo.data.Source, rng: np.random.Generator, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """An image of clothes and its label map, both of (28 * rows, 28 * columns) pixels."""
    image = np.zeros((28 * rows, 28 * columns, 3), "uint8")
    label_map = np.zeros(image.shape[:2], "uint8")
    for row, column in np.ndindex(rows, columns):
        if rng.random() < 0.2:
            continue  # an empty place
        number = rng.choice(list(CLASS_OF))
        piece = source.image(rng.choice(np.flatnonzero(source.labels == number)))
        bright = piece.max(axis=-1)
        place = slice(28 * row, 28 * row + 28), slice(28 * column, 28 * column + 28)
        image[place] = piece
        label_map[place] = np.where(bright > 60, CLASS_OF[number], np.where(bright > 0, EDGE, 0))
    return image, label_map


shutil.rmtree(FOLDER, ignore_errors=True)
rng = np.random.default_rng(0)
clothes = {"train": open_source("embedded", "train"), "val": open_source("embedded", "test")}
for split, count in {"train": NUM_TRAIN, "val": NUM_VALIDATION}.items():
    for kind in ("images", "labels"):
        (FOLDER / split / kind).mkdir(parents=True)
    for number in range(count):
        image, label_map = collage(clothes[split], rng, 2, 2)
        Image.fromarray(image).save(FOLDER / split / "images" / f"{number:03d}.png")
        Image.fromarray(label_map).save(FOLDER / split / "labels" / f"{number:03d}.png")
(FOLDER / "classes.txt").write_text("\n".join(CLASSES) + "\n")
print(*sorted(str(path) for path in FOLDER.glob("*/*/000.png")), FOLDER / "classes.txt", sep="\n")

# %% [markdown]
# Image and label map have the same name, in two folders; `classes.txt` names the classes. A number
# that is no class is an error, unless `ignore_index` names it:

# %%
try:
    open_label_maps(FOLDER, "train")[0]
except ValueError as error:
    print("without ignore_index:", error)

train = open_label_maps(FOLDER, "train", ignore_index=EDGE)
validation = open_label_maps(FOLDER, "validation", ignore_index=EDGE)
print(f"{len(train)} images to train on, {len(validation)} to measure on")


def images_and_maps(source: mimzoo.data.Source, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images (N, H, W, 3) of a source and their label maps (N, H, W)."""
    both = np.stack([source.image(index) for index in range(min(count, len(source)))])
    return both[..., :3], both[..., 3]


images, maps = images_and_maps(train, len(train))
shares = [f"{name} {np.mean(maps == number):.0%}" for number, name in enumerate(CLASSES)]
print("pixels:", ", ".join(shares), f"and {np.mean(maps == 255):.0%} that are ignored")

# %%
COLOURS = np.array([[60, 60, 60], [230, 120, 20], [40, 140, 220], [20, 180, 120], [220, 90, 190]])


def overlay(image: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """The image under the colours of its classes; ignored pixels stay as they are."""
    known = label_map != 255
    mixed = image.astype("float32")
    mixed[known] = 0.4 * mixed[known] + 0.6 * COLOURS[label_map[known]]
    return mixed.astype("uint8")


def show(rows: dict, title: str) -> None:
    """Draws rows of pictures with their names at the left, and what the colours mean."""
    columns = max(map(len, rows.values()))
    size = (columns * 1.35 + 1.2, len(rows) * 1.35 + 0.7)
    figure, grid = plt.subplots(len(rows), columns, figsize=size, layout="constrained")
    for (name, pictures), line in zip(rows.items(), grid, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    patches = [plt.Rectangle((0, 0), 1, 1, color=colour / 255) for colour in COLOURS]
    figure.legend(patches, CLASSES, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(title)


show({"image": images[:6], "label map": list(map(overlay, images[:6], maps[:6]))}, "To train on")

# %% [markdown]
# ## A linear head
#
# The backbone is a small ViT, pretrained by MAE on single pieces of 28 x 28 pixels. For such a
# *window* it gives 7 x 7 vectors, one for each patch of 4 x 4 pixels. The simplest head is one
# linear layer: from the vector of a patch (here of four of the six blocks, put together) to a score
# for each class, resized to the pixels of the window. The backbone stays as it is. So this is a
# linear probe (`guides/features.py`) for places instead of images: it shows what the features
# know about each place.
#
# Training cuts a random window out of each image and its label map. `RandomScaleCrop` could also
# scale both; our clothes all have one size, so the scale stays 1.


# %%
def new_model(head: str, pretrained: bool) -> keras.Model:
    """A segmenter whose head is trained, on a backbone that is not."""
    keras.utils.set_random_seed(0)
    model = ImageSegmenter.from_preset(
        PRESET, load_weights=pretrained, num_classes=len(CLASSES), class_names=CLASSES, head=head
    )
    model.backbone.trainable = False
    return model


def fit(model: keras.Model, learning_rate: float) -> dict:
    """Trains on random windows; returns the results on whole validation images."""
    augment = Compose([RandomScaleCrop((WINDOW, WINDOW), scale=(1, 1)), RandomFlip()])
    normalize = model.preprocessor.image_converter.normalize
    loader = Loader(train, BATCH_SIZE, transform=augment, normalize=normalize, epochs=None)
    steps = EPOCHS * loader.steps_per_epoch
    rate = WarmupCosine(learning_rate, total_steps=steps, warmup_steps=steps // 10)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05))
    history = model.fit(loader, epochs=EPOCHS, verbose=0).history
    print(f"loss {history['loss'][0]:.2f} -> {history['loss'][-1]:.2f} in {steps} steps", end=", ")
    return model.evaluate(validation, return_dict=True, verbose=0)


RATES = {"linear": 3e-2, "upernet": 4e-3}
models, results = {}, {}
for weights in ("pretrained", "random"):
    model = models["linear", weights] = new_model("linear", weights == "pretrained")
    results["linear", weights] = fit(model, RATES["linear"])
    print(f"linear, {weights} weights: mean IoU {results['linear', weights]['mean_iou']:.3f}")

# %% [markdown]
# *Mean IoU* is explained below; 1 would be perfect.
#
# ## UPerNet
#
# A linear layer decides about each patch on its own. *UPerNet* (Xiao et al., [arXiv
# 1807.10221](https://arxiv.org/abs/1807.10221)) looks around. From the maps of four blocks it makes
# a pyramid, the deeper the block, the coarser the map. The coarsest one is also averaged over large
# areas, for what is in the window as a whole; then each map is added to the next finer one,
# and convolutions of 3 x 3 read all of them together. A second, small head helps in training and is
# not used afterwards. Only the heads are trained here, too.

# %%
for weights in ("pretrained", "random"):
    model = models["upernet", weights] = new_model("upernet", weights == "pretrained")
    results["upernet", weights] = fit(model, RATES["upernet"])
    print(f"upernet, {weights} weights: mean IoU {results['upernet', weights]['mean_iou']:.3f}")

# %% [markdown]
# ## What they predict
#
# `predict` takes whole images and gives label maps of their size.

# %%
best = models["upernet", "pretrained"]
images, maps = images_and_maps(validation, 6)
rows = {"image": images, "label map": list(map(overlay, images, maps))}
for (head, weights), model in models.items():
    predicted = model.predict(images)
    rows[f"{head},\n{weights}"] = list(map(overlay, images, predicted))
wrong = images.copy()
wrong[(predicted := best.predict(images)) != maps] = (255, 0, 0)
wrong[maps == 255] = images[maps == 255]
show(rows | {"wrong,\nupernet,\npretrained": wrong}, "Validation images (wrong pixels are red)")

# %% [markdown]
# ## How good is it?
#
# The share of right pixels is a poor measure: a model that calls everything background is right
# for most of them. The usual measure is the *mean intersection over union* (mean IoU). For one
# class: the pixels that label map and prediction share, divided by the pixels that at least one of
# them gives to the class. What is missed lowers it, and so does what is invented. The mean over
# the classes counts small ones as much as large ones.

# %%
images, maps = images_and_maps(validation, len(validation))
predicted = best.predict(images)
counted = maps != 255
ious = []
for number, name in enumerate(CLASSES):
    ours, theirs = predicted[counted] == number, maps[counted] == number
    if (ours | theirs).any():  # a class that occurs nowhere counts in no mean
        ious.append((ours & theirs).sum() / (ours | theirs).sum())
        print(f"{name:10s} IoU {ious[-1]:.3f}")
right, background = (predicted == maps)[counted].mean(), (maps[counted] == 0).mean()
print(f"right pixels: {right:.1%}; 'background' everywhere would have {background:.1%}")
measured = results["upernet", "pretrained"]["mean_iou"]
print(f"mean IoU by hand {np.mean(ious):.4f}, by evaluate {measured:.4f}")

# %%
figure, axes = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
names = [f"{head}, {weights}" for head, weights in results]
values = [result["mean_iou"] for result in results.values()]
colours = ["#0072B2" if weights == "pretrained" else "#D55E00" for _, weights in results]
axes.bar_label(axes.barh(names, values, color=colours), fmt="%.2f", padding=2)
axes.set(xlim=(0, 1), xlabel=f"mean IoU on {len(validation)} images")
axes.invert_yaxis()

# %% [markdown]
# Pretrained features know more about each place: 0.67 against 0.47 with a linear head. UPerNet
# gains on both, to 0.74 and 0.56: what a piece is shows in what surrounds a patch. Yet on random
# features it stays behind a linear layer on pretrained ones. Most mistakes are where parts look
# alike, such as the waist of trousers and the hem of a top, and in the rarest class: trousers are
# 3% of the training pixels.
#
# ## Larger images
#
# The network only ever sees 28 x 28 pixels. Over a larger image the window *slides*, by half its
# size unless you give `stride`; where windows overlap, their scores are averaged. With a stride of
# a whole window nothing overlaps, and a piece that lies on a seam is seen in parts only. (The image
# below has a margin of 14 pixels, so the seams cut through every piece.) With a smaller stride
# each pixel is seen in several windows, and each piece is whole in one of them. Time grows with the
# number of windows: half a window is usually enough, and here a quarter is not better.

# %%
large, truth = collage(clothes["val"], rng, *LARGE)
large, truth = np.pad(large, ((14, 14), (14, 14), (0, 0))), np.pad(truth, 14)
truth[truth == EDGE] = 255
figure, grid = plt.subplots(2, 2, figsize=(8, 5.2), layout="constrained")
grid[0, 0].imshow(overlay(large, truth))
grid[0, 0].set_title("label map", fontsize=9)
for axes, stride in zip(grid.flat[1:], (WINDOW, WINDOW // 2, WINDOW // 4), strict=True):
    predicted = best.predict(large[None], stride=stride)[0]
    windows = np.prod([(side - WINDOW) // stride + 1 for side in truth.shape])
    share = (predicted == truth)[truth != 255].mean()
    print(f"stride {stride}: {windows} windows, {share:.1%} of the pixels are right")
    axes.imshow(overlay(large, predicted))
    axes.set_title(f"stride {stride}: {windows} windows", fontsize=9)
for axes in grid.flat:
    axes.set(xticks=[], yticks=[])
figure.suptitle("A larger image, and a window that slides over it")

# %% [markdown]
# ## Keeping it
#
# A segmenter is a preset like any other. The command `mimzoo finetune --task segment` trains one
# from a folder, the backbone too, with checkpoints and overlays after each validation:
#
# ```console
# $ mimzoo finetune vit_nano_mae_fmnist_20ep --task segment --data runs/clothes --ignore-index 5 \
#       --image-size 28 --workdir runs/segment
# $ mimzoo predict runs/segment photos/ --out pictures/
# ```

# %%
best.save_to_preset("runs/segmenter")
again = ImageSegmenter.from_preset("runs/segmenter")
print("classes:", ", ".join(again.class_names))
print("the same label map:", np.array_equal(again.predict(large[None]), best.predict(large[None])))

# %% [markdown]
# ## Exercise
#
# 1. Give the edges a class of their own instead of `ignore_index` (six names in `CLASSES`). Which
#    class lowers the mean IoU?
# 2. Train the backbone, too: `model.backbone.trainable = True`, and `LayerDecayAdamW` of
#    `mimzoo.optimizers` with `layer_decay=0.65` (`guides/fine_tuning_well.py`). Is it better after
#    as many steps? What does a step cost?
# 3. Train on 20 images instead of 160. How does the distance between pretrained and random change?
# 4. Let `RandomScaleCrop` draw the scale from (0.5, 2), and predict clothes that you enlarged
#    twofold. Which model is better on them, and which on the others?
