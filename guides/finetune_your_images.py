# %% [markdown]
# # Fine-tune a pretrained model on your own images
#
# You have a few hundred or thousand labelled images, too few to train a network from nothing. A
# model that was pretrained without labels has already learned what images look like, so it needs
# far fewer of yours. This guide makes a classifier of such a model, looks at its mistakes, saves
# it, and checks that fine-tuning was worth its time.
#
# It runs as it stands, on small example images that come with mimzoo. Then change the one line
# marked below to your own folder. The backend is what `KERAS_BACKEND` says: `jax`, `torch` or
# `tensorflow`.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %% [markdown]
# Importing mimzoo makes its models known to Keras, so it comes first.

# %%
import os
import tempfile
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")  # pictures go to files; a notebook shows them too

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from mimzoo.data import Compose, Loader, Normalize, RandomCropPad, RandomFlip, ResizeCrop
from mimzoo.downstream import extract_features, linear_probe

# %% [markdown]
# ## Settings
#
# Most of what you may want to change is here.

# %%
FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller

PRESET = "vit_nano_mae_fmnist_20ep"
EPOCHS = 1 if FAST else 20
NUM_IMAGES = 100 if FAST else 1500  # of the example; your own folder is used whole
BATCH_SIZE = 20 if FAST else 50
PROBE_STEPS = 20 if FAST else 500
OUT = Path("runs/finetune_your_images")  # pictures and models go here

OUT.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)


# %% [markdown]
# ## The images
#
# Images lie in one subfolder for each class, and the subfolders' names are the classes' names:
#
# ```
# photos/cat/001.jpg
# photos/cat/002.jpg
# photos/dog/001.jpg
# ```
#
# The next cell makes such a folder of example images. The model has never seen them: they are
# from the test part of Fashion-MNIST, and it was pretrained on the training part.


# %%
def make_example_folder(root: str) -> str:
    """Writes example images as PNG files, a subfolder for each class."""
    images = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=NUM_IMAGES)
    for number in range(len(images)):
        name = images.class_names[images.labels[number]].replace("/", " or ")
        folder = Path(root, name)
        folder.mkdir(exist_ok=True)
        Image.fromarray(images.image(number)).save(folder / f"{number:04d}.png")
    return root


temporary = tempfile.TemporaryDirectory(prefix="mimzoo_")

# >>> Your own images: change this line to FOLDER = "path/to/your/photos" <<<
FOLDER = make_example_folder(temporary.name)

# %% [markdown]
# A fifth of the images is kept back. The model never trains on these, so they show how it will do
# on new images. Which ones they are follows from the file names alone: adding more images
# later moves none from one side to the other. (If your folder has `train` and `val` in it, these
# are taken as they are.)

# %%
train_images = mimzoo.data.open_source(FOLDER, "train", holdout=0.2)
held_out = mimzoo.data.open_source(FOLDER, "validation", holdout=0.2)
CLASSES = train_images.class_names
print(f"{len(train_images)} images to train on, {len(held_out)} kept back")
print(f"{train_images.num_classes} classes: {', '.join(CLASSES)}")

# %% [markdown]
# ## The model
#
# `from_preset` loads the pretrained weights and puts a new, untrained layer on top, one output for
# each of your classes. `drop_path_rate` skips some blocks at random while training, which keeps a
# large network from learning few images by heart.
#
# The bundled preset is a small one, for images of 28 pixels, so that this guide needs minutes and
# no GPU. For photographs take one that was pretrained on photographs: `mimzoo list` shows all.

# %%
model = mimzoo.models.ImageClassifier.from_preset(
    PRESET, num_classes=train_images.num_classes, drop_path_rate=0.1
)
SIZE = model.backbone.image_shape[0]
print(f"{model.count_params():,} weights, images of {SIZE} x {SIZE} pixels")

# %% [markdown]
# ## Batches
#
# Each time an image comes up it is shifted a little and, half of the time, mirrored. That is free
# variety: the class stays what it is. Leave out `RandomFlip` where left and right matter, as in
# writing. For photographs, `mimzoo.data.RandomResizedCrop(SIZE)` alone does the work of
# `ResizeCrop` and `RandomCropPad`. Images to test on are only brought to the right size.

# %%
augment = Compose([ResizeCrop(SIZE, 1.0), RandomCropPad(SIZE // 8), RandomFlip()])
plain = ResizeCrop(SIZE, 1.0)

train = Loader(train_images, BATCH_SIZE, transform=augment, labels=True, epochs=None)
test = Loader(
    held_out,
    BATCH_SIZE,
    transform=plain,
    labels=True,
    shuffle=False,
    drop_remainder=False,
    epochs=None,
)

# %% [markdown]
# ## Training
#
# Two habits make fine-tuning work. The learning rate rises at first, since the new layer knows
# nothing yet and its first steps are wild, then falls to zero along a cosine. And the deeper a
# layer lies, the smaller its steps (`layer_decay`): edges and textures are learned already, only
# what they mean is new.

# %%
steps = EPOCHS * train.steps_per_epoch
rate = mimzoo.optimizers.WarmupCosine(1e-3, total_steps=steps, warmup_steps=steps // 20)
optimizer = mimzoo.optimizers.LayerDecayAdamW(model, rate, layer_decay=0.75)
model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
history = model.fit(
    train.dataset(),
    steps_per_epoch=train.steps_per_epoch,
    epochs=EPOCHS,
    validation_data=test.dataset(),
    validation_steps=test.steps_per_epoch,
    shuffle=False,  # the loader does
    verbose=2,
)

# %% [markdown]
# ## How good is it?
#
# The scores of all held-out images, and from them the accuracy and the confusion matrix: a row
# for each true class, and in it the share of its images that was called what. A good model has all
# its colour on the diagonal; what lies beside it shows which classes are confused.

# %%
logits = model.predict(test.dataset(), steps=test.steps_per_epoch, verbose=0)
predicted = logits.argmax(axis=1)
accuracy = float((predicted == held_out.labels).mean())
print(f"fine-tuned: {accuracy:.1%} of {len(held_out)} held-out images are right")

counts = np.zeros((len(CLASSES), len(CLASSES)), int)
np.add.at(counts, (held_out.labels, predicted), 1)
shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

figure, axes = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
picture = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
names = range(len(CLASSES))
axes.set_xticks(names, CLASSES, rotation=45, ha="right", rotation_mode="anchor")
axes.set_yticks(names, CLASSES)
axes.set(xlabel="the model says", ylabel="the truth")
axes.set_title(f"{accuracy:.1%} of {len(held_out)} held-out images are right")
if len(CLASSES) <= 20:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "black" if shares[row, column] > 0.5 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
figure.colorbar(picture, label="share of the true class", shrink=0.8)
figure.savefig(OUT / "confusion.png", dpi=100)

# %% [markdown]
# ## The hardest images
#
# Those whose true class got the least probability. Look at them before you change anything else:
# they are often labelled wrong, or cut off, or of two classes at once.

# %%
scores = np.exp(logits - logits.max(axis=1, keepdims=True))
scores /= scores.sum(axis=1, keepdims=True)
of_truth = scores[np.arange(len(held_out)), held_out.labels]
hardest = np.argsort(of_truth)[:10]

figure, grid = plt.subplots(2, 5, figsize=(11, 5.6), layout="constrained")
figure.get_layout_engine().set(h_pad=0.1)
for axes in grid.flat:
    axes.axis("off")
for axes, index in zip(grid.flat, hardest, strict=False):
    truth, said = held_out.labels[index], predicted[index]
    axes.imshow(held_out.image(int(index)), interpolation="nearest")
    lines = f"truth: {CLASSES[truth]}\nsays: {CLASSES[said]} ({scores[index, said]:.0%})"
    mark, colour = ("right", "#0072B2") if said == truth else ("wrong", "#D55E00")
    axes.set_title(f"{mark}\n{lines}", fontsize=10, color=colour)
figure.savefig(OUT / "hardest.png", dpi=100)

# %% [markdown]
# ## Save it, load it
#
# A saved preset is a folder. It holds the weights, the network, and how images are resized and
# normalised, so it takes images as they are. To use it elsewhere you need that folder and
# two lines: `import mimzoo` and `from_preset`.

# %%
model.save_to_preset(str(OUT / "classifier"))
loaded = mimzoo.models.ImageClassifier.from_preset(str(OUT / "classifier"))

sample = np.stack([plain(held_out.image(index)) for index in range(min(8, len(held_out)))])
difference = np.abs(loaded.predict_on_batch(sample) - logits[: len(sample)]).max()
print(f"saved in {OUT / 'classifier'}; loaded again, its scores differ by {difference:.0e}")

# %% [markdown]
# ## Was fine-tuning worth it?
#
# The cheap alternative is a linear probe: the pretrained network stays as it is, and only one
# linear layer is trained on its features. It takes seconds. If it does as well as fine-tuning,
# your classes are easy for this preset; if it does much worse, your images differ from what the
# preset has seen, and more fine-tuning may pay.

# %%
backbone = mimzoo.models.Backbone.from_preset(PRESET)
converter = model.preprocessor.image_converter
features = []
for source in (train_images, held_out):
    batches = Loader(
        source,
        BATCH_SIZE,
        transform=plain,
        normalize=Normalize(converter.mean, converter.std),
        labels=True,
        shuffle=False,
        drop_remainder=False,
    )
    features += extract_features(backbone, batches)
probe = linear_probe(*features, num_classes=len(CLASSES), steps=PROBE_STEPS)

print(f"linear probe  {probe:6.1%}")
print(f"fine-tuned    {accuracy:6.1%}")
print(f"pictures and the classifier are in {OUT}")

# %% [markdown]
# ## What next
#
# * More epochs (`EPOCHS = 100`) and stronger augmentation (`mimzoo.data.finetune_augment`: mixup,
#   cutmix, RandAugment) help when the training accuracy is far above that of held-out images.
# * `mimzoo finetune PRESET --data FOLDER --workdir runs/mine` does all this by a recipe, with
#   checkpoints: the same command resumes a stopped run.
# * Many images without labels? `guides/pretrain_your_images.py` makes a preset of them.
