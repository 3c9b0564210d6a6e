# %% [markdown]
# # Few labels
#
# Images are cheap, labels are not. You have thousands of pictures, and someone has time to label a
# hundred. How far does that go? Pretraining has seen the images without labels; what is left to
# learn is what the classes are called.
#
# This guide takes the same labels and uses them in three ways: a vote of the nearest neighbours, a
# linear probe on frozen features, and fine-tuning of the whole network; each from pretrained and
# from random weights. `guides/features.py` explains the first two, `guides/fine_tuning_well.py` the
# recipe of the third. About four minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np

from mimzoo.data import Compose, Loader, RandomCropPad, RandomFlip, open_source, take_subset
from mimzoo.downstream import extract_features, knn_accuracy, linear_probe
from mimzoo.models import ImageClassifier
from mimzoo.optimizers import LayerDecayAdamW, WarmupCosine

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
PRESET = "vit_nano_mae_fmnist_20ep"
STEPS = {20: 2, 100: 5} if FAST else {100: 100, 1000: 160}  # labels -> steps of fine-tuning
SEEDS = (0,) if FAST else (0, 1, 2)  # of the choice of labels
BATCH_SIZE = 20 if FAST else 25
PROBE_STEPS = 20 if FAST else 500

train = open_source("embedded", "train")
test = take_subset(open_source("embedded", "test"), count=100 if FAST else 1000)
CLASSES = train.class_names

# %% [markdown]
# ## What a hundred labels are
#
# Fashion-MNIST has ten classes; `take_subset` takes as many of each, and with another seed others.
# Here are all labels that a class has when there are 100.

# %%
few = take_subset(train, count=100)
order = np.argsort(few.labels, kind="stable").reshape(10, 10)  # a row for each class
rows = [np.concatenate([few.image(index) for index in row], axis=1) for row in order]
figure, axes = plt.subplots(figsize=(7.2, 6), layout="constrained")
axes.imshow(np.concatenate(rows), interpolation="nearest")
axes.set(xticks=[], yticks=14 + 28 * np.arange(10), yticklabels=CLASSES)
axes.set_title("100 labels")

# %% [markdown]
# ## Frozen features
#
# Neighbours and probe read the features of a network that stays as it is. Features do not depend on
# labels: those of the test images are computed once for each network.


# %%
def new_model(pretrained: bool) -> keras.Model:
    """A classifier of ten classes."""
    keras.utils.set_random_seed(0)
    return ImageClassifier.from_preset(
        PRESET, load_weights=pretrained, num_classes=10, drop_path_rate=0.1
    )


def features(model: keras.Model, source: mimzoo.data.Source) -> np.ndarray:
    """The mean over an image's patches: (N, D)."""
    images = [source.image(index) for index in range(len(source))]
    parts = (model.preprocess(np.stack(images[n : n + 100])) for n in range(0, len(images), 100))
    return extract_features(model.backbone, parts)[0]


WEIGHTS = {"pretrained": True, "random": False}
frozen = {name: new_model(pretrained) for name, pretrained in WEIGHTS.items()}
test_features = {name: features(model, test) for name, model in frozen.items()}
print("features of the test images:", test_features["pretrained"].shape)

# %% [markdown]
# ## Three ways to use labels
#
# Fine-tuning changes all weights, so it can learn most and forget most. From random weights it
# trains all layers alike; from a preset the deeper ones take smaller steps, as `fine_tuning_well`
# shows. It has the same number of steps from both.


# %%
def fine_tuned(source: mimzoo.data.Source, pretrained: bool, seed: int) -> float:
    """Accuracy on the test images after fine-tuning on all images of a source."""
    model = new_model(pretrained)
    transform = Compose([RandomCropPad(3), RandomFlip()])
    loader = Loader(source, BATCH_SIZE, transform=transform, labels=True, epochs=None, seed=seed)
    steps = STEPS[len(source)]
    rate = WarmupCosine(1e-3, total_steps=steps, warmup_steps=steps // 10)
    optimizer = LayerDecayAdamW(model, rate, layer_decay=0.75 if pretrained else 1.0)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    epochs = steps // loader.steps_per_epoch
    model.fit(loader, epochs=epochs, verbose=0)
    return model.evaluate(test, batch_size=100, verbose=0, return_dict=True)["accuracy"]


results = {}  # (labels, way, weights) -> an accuracy for each seed
for labels in STEPS:
    for seed in SEEDS if labels < len(train) else SEEDS[:1]:  # of all labels there is one choice
        source = take_subset(train, count=labels, seed=seed)
        for name, pretrained in WEIGHTS.items():
            x = features(frozen[name], source)
            data = (x, source.labels, test_features[name], test.labels)
            accuracies = {
                "kNN": knn_accuracy(*data, num_classes=10, k=min(20, labels // 10)),
                "linear probe": linear_probe(*data, num_classes=10, steps=PROBE_STEPS),
            }
            accuracies["fine-tuned"] = fine_tuned(source, pretrained, seed)
            for way, accuracy in accuracies.items():
                results.setdefault((labels, way, name), []).append(accuracy)
for (labels, way, name), values in sorted(results.items()):
    each = " ".join(f"{value:.1%}" for value in values)
    print(f"{labels} labels, {way}, {name} weights: {np.mean(values):.1%} ({each})")

# %%
figure, pair = plt.subplots(1, 2, figsize=(8.6, 3), sharex=True, layout="constrained")
for axes, labels in zip(pair, STEPS, strict=True):
    for row, way in enumerate(("kNN", "linear probe", "fine-tuned")):
        for name, colour, marker in (("random", "#D55E00", "s"), ("pretrained", "#0072B2", "o")):
            values = 100 * np.array(results[labels, way, name])
            shift = 0.12 if name == "random" else -0.12
            places = np.full(len(values), row + shift)
            label = f"{name} weights" if row == 0 else None
            axes.plot(values, places, marker, color=colour, alpha=0.7, label=label)
    axes.set_yticks(range(3), ("kNN", "linear probe", "fine-tuned"))
    axes.set(title=f"{labels:,} labels", xlabel="% of unseen images")
    axes.set_ylim(2.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
figure.legend(loc="outside lower center", ncols=2, frameon=False)
figure.suptitle("A mark is a choice of labels")

# %% [markdown]
# Whatever is done with the labels, pretrained weights are far ahead. By the probe, 100 labels on
# pretrained features are worth more than 1,000 on random ones. Another choice of labels moves most
# results by a few points.
#
# With so few labels and steps, fine-tuning is *behind* the frozen features. It has a new last layer
# and all other weights to move, and only a hundred steps to do so; a probe has one layer to find.
# From random weights the whole network would have to be learned, which takes far more steps than
# this. With 1,000 labels and 30 epochs instead of four, fine-tuning overtakes the probe
# ([results](../docs/presets.md#the-bundled-presets)). So start with the probe: it takes seconds,
# and its result is what fine-tuning has to beat.
#
# ## Exercise
#
# 1. Which classes suffer most from few labels? Train on 100 and compare `model.predict(test)` with
#    `test.labels`, class by class.
# 2. Give one class ten labels and all others one. `Subset(train, indices)` of `mimzoo.data` takes
#    any rows. Which of the three ways suffers least?
# 3. Fine-tune on 100 labels from random weights for ten times as many steps. How much of the
#    distance is left?
# 4. Label wisely: cluster the pretrained features of all 1,000 images into 100 groups (for instance
#    by `sklearn.cluster.KMeans`), and label the image nearest to each centre. Is it better than a
#    random choice?
