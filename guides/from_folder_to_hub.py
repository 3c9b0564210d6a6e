# %% [markdown]
# # From a folder of images to the Hub
#
# You have a folder of images, and want a pretrained network of your own that others can load by its
# name. This guide goes all the way by mimzoo's commands: look for faults in the folder, pretrain,
# fine-tune, read the model card, and publish. Publishing is a dry run here, so nothing leaves this
# machine, and no network is needed.
#
# It runs as it stands, on small example images. `guides/pretrain_your_images.py` does the
# pretraining in Python, line by line. About three minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os
import shlex
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # this guide asks no network

import matplotlib.pyplot as plt
from mimzoo_training.cli import main
from PIL import Image

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
NUM_IMAGES = 60 if FAST else 1000
EPOCHS = 1 if FAST else 8


def run(line: str) -> int:
    """Runs a command as a terminal does; a notebook may also write `!mimzoo ...`."""
    print("$", line)
    return main(shlex.split(line)[1:])


def show(*paths: Path) -> None:
    """Draws pictures that a command has written."""
    for path in paths:
        picture = plt.imread(path)
        height, width = picture.shape[:2]
        figure = plt.figure(figsize=(8, 8 * height / width))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(picture)
        axes.axis("off")


# %% [markdown]
# ## The folder
#
# A subfolder for each class. Pretraining needs no classes, fine-tuning does. Real folders have
# faults, so two are put in: a file that was cut off while it was copied, and an image that is there
# twice.

# %%
FOLDER = Path("photos")
shutil.rmtree(FOLDER, ignore_errors=True)
images = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "test"), count=NUM_IMAGES)
for number in range(len(images)):
    name = images.class_names[images.labels[number]].replace("/", " or ")
    path = FOLDER / name / f"{number:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(images.image(number)).save(path)
some = sorted(FOLDER.rglob("*.png"))
whole = some[0].read_bytes()
some[0].write_bytes(whole[: len(whole) // 2])
shutil.copyfile(some[-1], some[-1].with_name("copy.png"))

# %% [markdown]
# ## The doctor
#
# Training skips a file that it cannot read, and says so. But it is better to know before.

# %%
print("exit status:", run("mimzoo doctor photos"))

# %% [markdown]
# Both are found. The exit status is not 0, so a script can stop there. After the repair:

# %%
some[0].write_bytes(whole)
some[-1].with_name("copy.png").unlink()
print("exit status:", run("mimzoo doctor photos"))

# %% [markdown]
# ## Pretraining, by its parts
#
# Name a method, a backbone, a size and the image size. What else a run needs follows from the
# images and the method's published recipe, and is printed with its reason. For photographs on a
# GPU, `--size small --image-size 224` and as many epochs as you can afford.

# %%
shutil.rmtree("runs", ignore_errors=True)
run(
    "mimzoo pretrain --method mae --backbone vit --size nano --image-size 28 --data photos "
    f"--epochs {EPOCHS} --workdir runs/mine"
)

# %% [markdown]
# The same command resumes a run that was stopped; run again now, it finds nothing to do. The folder
# holds the recipe, the losses, pictures, and the preset. The peak learning rate is that of the
# published recipe, scaled with the batch. For so few images that is very little, so the loss falls
# slowly: it is the way that counts here. For a network worth having take more images and epochs.

# %%
print(*sorted(str(path) for path in Path("runs/mine").iterdir()), sep="\n")
print(*sorted(str(path) for path in Path("runs/mine/preset").iterdir()), sep="\n")
show(Path("runs/mine/preset/curve.png"))
show(sorted(Path("runs/mine").glob("reconstruction_*.png"))[-1])

# %% [markdown]
# ## Is it any good?
#
# A linear probe on frozen features, and kNN, with images that the run has not seen.

# %%
run("mimzoo probe runs/mine --data photos --split validation --num-labels 40")

# %% [markdown]
# ## The card
#
# A preset comes with a model card: what it is, three lines of use, recipe, results, origin and
# licence of the weights, limits. It is made of what lies in the folder, so it names no number that
# was not measured. Read it, and add what only you know: what the images show, where they are from,
# who may use them.

# %%
card = Path("runs/mine/preset/README.md").read_text(encoding="utf-8")
print(card[card.index("\n# ") : card.index("\n## Recipe")])

# %% [markdown]
# ## Publishing
#
# `--dry-run` does everything except for changing something on the Hub. For the real thing, log in
# (`hf auth login`) and leave it out. `--images` gives the card a picture of reconstructions.

# %%
print(
    "exit status:",
    run("mimzoo publish runs/mine --org my-organisation --dry-run --allow-licence unknown"),
)

# %% [markdown]
# After that, anyone can write `mimzoo.models.ImageClassifier.from_preset("hf://my-organisation/…",
# num_classes=10)`. Until then, the folder is as good as a name:

# %%
model = mimzoo.models.ImageClassifier.from_preset("runs/mine/preset", num_classes=10)
print(f"{model.count_params():,} weights")

# %% [markdown]
# ## Exercise
#
# 1. Stop the pretraining in the middle (Ctrl-C in a terminal) and start it again. What does it say,
#    and are the losses the same as without a stop?
# 2. Put 50 images of your own into the folder, as a new class of photographs of another size. What
#    does the doctor say?
# 3. Fine-tune: `mimzoo finetune runs/mine --data photos --workdir runs/tuned --epochs 20`, and with
#    `--from-scratch` into another folder. Read both cards.
