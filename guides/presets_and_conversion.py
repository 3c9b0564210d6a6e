# %% [markdown]
# # Presets and conversion
#
# Pretraining takes days, loading takes seconds: most people begin with weights of others. A
# *preset* is a folder with such weights and all that is needed to use them. This guide opens one,
# loads it in several ways, changes it, and then goes from mimzoo to the format of another library
# and back, without a network. It ends with what happens when a file is wrong.
#
# Under a minute on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # this guide asks no network

import keras
import keras_hub
import matplotlib.pyplot as plt
import numpy as np
from safetensors.numpy import load_file, save_file

from mimzoo.convert import convert, export
from mimzoo.models import Backbone, ImageClassifier
from mimzoo.pretraining import MIMTask

NAME = "vit_nano_mae_fmnist_20ep"  # MAE on Fashion-MNIST, bundled with mimzoo
OUT = Path("runs/presets")
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir(parents=True)

# %% [markdown]
# ## What is in a preset
#
# A name stands for a folder: bundled with the package, on the Hugging Face Hub, or made on this
# machine. `mimzoo list` shows all names, and `mimzoo info NAME` what one of them is.

# %%
folder = Path(mimzoo.hub.resolve(NAME))
for file in sorted(folder.iterdir()):
    print(f"{file.stat().st_size / 1e3:8.1f} kB  {file.name}")
config = json.loads((folder / "config.json").read_text())["config"]
print({key: config[key] for key in ("image_shape", "patch_size", "embed_dim", "depth")})

# %% [markdown]
# Three of them make a network. `config.json` says how to build the *backbone*, the part that turns
# an image into features, and `model.weights.h5` has its weights. `task.json` and `task.weights.h5`
# add what pretraining needs: masking, decoder and target. The preprocessor's files say how an image
# becomes the network's input, the rest is for people: the card, the curve, the recipe.
# `manifest.json` has a hash of each file that is read, so damage is noticed.
#
# ## Three ways to load it
#
# The backbone alone, for features; the task, to continue pretraining or to look at
# reconstructions; or a classifier, which takes the backbone and gets a new head.

# %%
backbone = Backbone.from_preset(NAME)
task = MIMTask.from_preset(NAME)
classifier = ImageClassifier.from_preset(NAME, num_classes=10)
for model in (backbone, task, classifier):
    print(f"{type(model).__name__}: {model.count_params():,} weights")

# %% [markdown]
# Arguments of the constructors may follow, and replace those of the preset. So a backbone gets drop
# path for fine-tuning, or takes larger images: its table of positions is then resized. Weights that
# do not depend on these arguments stay as they are.

# %%
larger = MIMTask.from_preset(NAME, image_shape=(56, 56, 3), drop_path_rate=0.1)
print("patches of an image:", backbone.grid, "and", larger.backbone.grid)

test = mimzoo.data.open_source("embedded", "test")
small_images = [test.image(i) for i in range(8)]
large_images = [image.repeat(2, axis=0).repeat(2, axis=1) for image in small_images]

rows = {"28 px": (task, small_images), "56 px": (larger, large_images)}
figure, grid = plt.subplots(4, 8, figsize=(9, 4.6), layout="constrained")
for number, (size, (model, images)) in enumerate(rows.items()):
    pictures = model.reconstruct(images)
    for kind, shown in (("masked", pictures["masked"]), ("filled in", pictures["reconstruction"])):
        line = grid[2 * number + (kind == "filled in")]
        for axes, picture in zip(line, shown, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{kind}\n{size}", rotation=0, ha="right", va="center", fontsize=9)
    print(f"{size}: loss {model.evaluate(images, verbose=0):.3f}")
figure.suptitle("One set of weights at two sizes")

# %% [markdown]
# At twice the size the network still paints clothes, though it has never seen a patch so smooth, at
# such a place. For good results at a new size, train there for a while.
#
# ## Your own preset
#
# Any model of mimzoo saves one. A folder loads like a name.

# %%
task.save_to_preset(OUT / "mine")
mine = MIMTask.from_preset(str(OUT / "mine"))
images = task.preprocess(small_images)
before, after = (keras.ops.convert_to_numpy(m.backbone(images)) for m in (task, mine))
print("the same features:", np.array_equal(before, after))

# %% [markdown]
# The format is KerasHub's, so KerasHub's own classes load it as well, once mimzoo is imported:

# %%
theirs = keras_hub.models.Backbone.from_preset(str(OUT / "mine"))
print(f"{type(theirs).__module__.split('.')[0]}'s {type(theirs).__name__}")

# %% [markdown]
# ## To another library
#
# timm, transformers and the papers' own code give the same weights other names, other orders of
# axes, sometimes other pieces. A *layout* is a table of these names. `export` writes a safetensors
# file in a layout, here timm's; `mimzoo export` does so in a terminal.

# %%
result = export(folder, "timm_vit", OUT / "timm.safetensors")
print(
    f"{result['tensors']} tensors; {result['left_out']} of the decoder have no place in timm's ViT"
)
tensors = load_file(OUT / "timm.safetensors")
for name in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"):
    print(f"  {name}: {tensors[name].shape}")
ours = next(w for w in backbone.weights if w.path.endswith("qkv/kernel"))
print(f"mimzoo's {ours.path}: {tuple(ours.shape)}")

# %% [markdown]
# torch stores a matrix as (outputs, inputs), Keras as (inputs, outputs): the table says so, and the
# numbers are turned.
#
# ## From another library
#
# `convert` goes the other way. It looks at the names and shapes, finds the layout, and builds a
# model of that size. What no tensor shows has to be said: here mean and standard deviation of the
# images, and the licence. A file without a model card could be anyone's, so mimzoo assumes the
# licence of the layout's authors unless you say otherwise.

# %%
converter = task.preprocessor.image_converter
stored = {"mean": converter.mean, "std": converter.std}
entry = convert(OUT / "timm.safetensors", OUT / "again", licence="Apache-2.0", **stored)
print({key: entry[key] for key in ("layout", "tensors", "ignored", "licence")})
again = Backbone.from_preset(str(OUT / "again"))
back = keras.ops.convert_to_numpy(again(images))
print("the same features:", np.array_equal(before, back))

# %% [markdown]
# The layout that was found is the one of MAE's authors, whose encoder has timm's names. You need
# not convert by hand: `from_preset` takes such a file, or its address on the Hub
# (`hf://facebook/vit-mae-base`), and keeps the converted preset for the next time.
#
# ## When something is wrong
#
# A converter that guesses is dangerous: a layer that silently keeps its random weights costs a few
# points of accuracy, and nobody notices. So any tensor without a place, and any weight without a
# tensor, ends the conversion; an argument that does not exist is named; a changed file is refused.


# %%
def attempt(what: str, action: object) -> None:
    """Prints the error."""
    try:
        action()
    except (TypeError, ValueError) as error:
        print(f"{what}:\n  {error}")


without = {name: tensor for name, tensor in tensors.items() if name != "blocks.3.mlp.fc1.bias"}
save_file(without, OUT / "cut.safetensors")
attempt("a tensor is missing", lambda: convert(OUT / "cut.safetensors", OUT / "cut"))

save_file({**tensors, "blocks.0.gate": np.zeros(3, "float32")}, OUT / "more.safetensors")
attempt("one too many", lambda: convert(OUT / "more.safetensors", OUT / "more"))

attempt("a typing error", lambda: Backbone.from_preset(NAME, drop_path=0.1))

weights = OUT / "mine" / "model.weights.h5"
content = bytearray(weights.read_bytes())
content[len(content) // 2] ^= 1  # one bit
weights.write_bytes(content)
attempt("a damaged file", lambda: Backbone.from_preset(str(OUT / "mine")))

# %% [markdown]
# ## Exercise
#
# 1. Export the task in the layout `hf_vit_mae`. How many tensors are left out now, and why?
# 2. Change one number in `tensors` before you convert it back. Which features change, and by how
#    much? Try a bias of the first and of the last block.
# 3. Load the backbone at `image_shape=(14, 14, 3)`. What is the smallest image it takes, and what
#    does the error say below that?
# 4. `docs/add_a_layout.md` shows how a layout is written. Which rows would a ViT need whose three
#    projections of queries, keys and values are stored one by one?
#
# Next: `guides/finetune_your_images.py` fine-tunes a preset on images of your own.
