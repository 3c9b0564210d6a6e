# %% [markdown]
# # Pretrain a model on your own images, without labels
#
# Labels are expensive, images are not. A masked autoencoder (MAE) learns from images alone: it
# sees a quarter of each one and has to paint the rest. To do so it must learn what your images
# are made of, and that is what a classifier needs later. This guide pretrains a small network,
# shows whether that works, and saves it for fine-tuning.
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
# Most of what you may want to change is here. More epochs are what helps most: the papers pretrain
# for hundreds.

# %%
FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller

EPOCHS = 2 if FAST else 30
NUM_IMAGES = 100 if FAST else 5000  # of the example; your own folder is used whole
BATCH_SIZE = 20 if FAST else 64
PROBE_STEPS = 20 if FAST else 500
SIZE = 28  # pixels; 224 is usual for photographs
OUT = Path("runs/pretrain_your_images")  # pictures and models go here

OUT.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)


# %% [markdown]
# ## The images
#
# Any folder of images will do, however deep its subfolders are: pretraining looks at no label. The
# next cell makes one of example images. They lie in a subfolder for each class, which is only used
# at the end, to see what the network has learned.


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
# A fifth of the images is kept back: whether the network learns your kind of image, or only these
# very images by heart, shows on those that it never trains on.

# %%
train_images = mimzoo.data.open_source(FOLDER, "train", holdout=0.2)
held_out = mimzoo.data.open_source(FOLDER, "validation", holdout=0.2)
print(f"{len(train_images)} images to train on, {len(held_out)} kept back")

# %% [markdown]
# ## The task
#
# A pretraining task is a backbone, which is what you keep, and a small decoder, which paints and
# is thrown away. `"nano"` is a vision transformer for images of 28 pixels; for photographs take
# `"small"` or `"base"` with `SIZE = 224`, leave out `decoder`, and use a GPU.

# %%
backbone = mimzoo.models.ViTBackbone.from_size("nano", image_shape=(SIZE, SIZE, 3))
task = mimzoo.pretraining.MAE(
    backbone, decoder=mimzoo.pretraining.MAEDecoder(embed_dim=64, depth=2, num_heads=2)
)
print(f"{backbone.count_params():,} weights, {task.masking.mask_ratio:.0%} of an image hidden")

# %% [markdown]
# How it fares is measured before and after, by a linear probe: one linear layer is trained on the
# network's frozen features to separate the classes. If the features are good, that is easy. The
# network is new here, so the first result is what a network has that learned nothing.

# %%
converter = task.preprocessor.image_converter
normalize = Normalize(converter.mean, converter.std)
plain = ResizeCrop(SIZE, 1.0)


def probe(backbone: keras.Model) -> float:
    """Accuracy of a linear layer on the frozen features of a backbone, on held-out images."""
    features = []
    for source in (train_images, held_out):
        batches = Loader(
            source,
            BATCH_SIZE,
            transform=plain,
            normalize=normalize,
            labels=True,
            shuffle=False,
            drop_remainder=False,
        )
        features += extract_features(backbone, batches)
    return linear_probe(*features, num_classes=train_images.num_classes, steps=PROBE_STEPS)


labelled = train_images.labelled  # a folder of your own need not be
if labelled:
    untrained = probe(backbone)
    print(f"linear probe, untrained: {untrained:.1%}")

# %% [markdown]
# ## Batches
#
# The loader reads, shifts and mirrors the images, and hides three quarters of each: other patches
# each time. All that follows from a seed, the epoch and the image's number, so a run can be
# repeated. For photographs, `mimzoo.data.RandomResizedCrop(SIZE)` alone does the work of
# `ResizeCrop` and `RandomCropPad`.
#
# Held-out images always have the same masks. So their loss is one number that two runs can compare.

# %%
train = Loader(
    train_images,
    BATCH_SIZE,
    transform=Compose([ResizeCrop(SIZE, 1.0), RandomCropPad(SIZE // 8), RandomFlip()]),
    normalize=normalize,
    draw=task.draw,
    epochs=None,
)
validation = np.stack([plain(held_out.image(index)) for index in range(len(held_out))])

# %% [markdown]
# ## Training
#
# The loss is the squared error on the hidden patches, each patch normalised: 1 means no idea, 0
# perfect. Images, nothing else, go into `fit`. If all your images fit into memory,
# `task.fit(images, validation_data=held_out)` does without a loader, and draws masks itself.

# %%
steps = EPOCHS * train.steps_per_epoch
rate = mimzoo.optimizers.WarmupCosine(1e-3, total_steps=steps, warmup_steps=steps // 20)
task.compile(mimzoo.optimizers.AdamW(task, rate))
history = task.fit(
    train.dataset(),
    steps_per_epoch=train.steps_per_epoch,
    epochs=EPOCHS,
    validation_data=validation,
    batch_size=BATCH_SIZE,
    shuffle=False,  # the loader does
    verbose=2,
).history

# %% [markdown]
# ## Does it work? First sign: the loss on held-out images falls
#
# Both curves should fall, quickly at first and then ever more slowly. If that of the held-out
# images turns upwards while the other still falls, the network learns your images by heart:
# get more images, or stop there.

# %%
epochs = np.arange(1, EPOCHS + 1)
figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
axes.plot(epochs, history["loss"], "-o", ms=4, color="#0072B2", label="training images")
axes.plot(epochs, history["val_loss"], "--s", ms=4, color="#D55E00", label="held-out images")
axes.set(xlabel="epoch", ylabel="loss on hidden patches")
axes.xaxis.get_major_locator().set_params(integer=True)
axes.grid(alpha=0.3)
axes.legend()
figure.savefig(OUT / "curve.png", dpi=100)
print(f"loss on held-out images: {history['val_loss'][0]:.3f} -> {history['val_loss'][-1]:.3f}")

# %% [markdown]
# ## Second sign: it paints what is hidden
#
# Held-out images: whole, as the network sees them, and with the hidden patches painted in. Shapes
# should be right. Fine detail will be blurred, since nobody could know it.

# %%
pictures = task.reconstruct(validation[:: max(1, len(validation) // 8)][:8])
rows = {"original": "original", "masked": "what it sees", "reconstruction": "painted"}
figure, grid = plt.subplots(3, 8, figsize=(10, 4), layout="constrained")
for (key, label), line in zip(rows.items(), grid, strict=True):
    for axes in line:
        axes.set(xticks=[], yticks=[])
    for axes, image in zip(line, pictures[key], strict=False):
        axes.imshow(image, interpolation="nearest")
    line[0].set_ylabel(label, fontsize=12)
figure.savefig(OUT / "reconstruction.png", dpi=100)

# %% [markdown]
# ## Third sign: its features separate the classes
#
# The same probe as before. No label was used in pretraining, so whatever is better now was learned
# from images alone.

# %%
if labelled:
    pretrained = probe(backbone)
    print("linear probe on frozen features, held-out images")
    print(f"  untrained   {untrained:6.1%}")
    print(f"  pretrained  {pretrained:6.1%}")
else:
    print("No linear probe: it needs a folder with one subfolder for each class.")

# %% [markdown]
# ## Save it, and make a classifier of it
#
# `task.save_to_preset` would keep the decoder as well, for more reconstructions. For anything
# else the backbone is what you want. A classifier loads it by the folder's name.

# %%
backbone.save_to_preset(str(OUT / "backbone"))
model = mimzoo.models.ImageClassifier.from_preset(str(OUT / "backbone"), num_classes=10)
scores = model.predict_on_batch(validation[:4])
print(f"saved in {OUT / 'backbone'}; a classifier on it gives scores of shape {scores.shape}")

# %% [markdown]
# ## What next
#
# * Put `PRESET = "runs/pretrain_your_images/backbone"` into `guides/finetune_your_images.py`: it
#   fine-tunes what you have just pretrained.
# * `mimzoo pretrain RECIPE --data FOLDER --workdir runs/mine` pretrains by a recipe, for days if
#   need be, with checkpoints: the same command resumes a stopped run. `mimzoo list` shows the
#   recipes.
