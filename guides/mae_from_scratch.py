# %% [markdown]
# # MAE from scratch, and then with mimzoo
#
# A masked autoencoder is a small idea: encode the visible patches only, put a mask token wherever
# one was hidden, and let a small decoder paint them (He et al., [arXiv
# 2111.06377](https://arxiv.org/abs/2111.06377)). Here it is in about a hundred lines of plain
# Keras, for JAX, torch and TensorFlow. Then the same model in four lines of mimzoo, and both beside
# each other.
#
# You need to know Keras and what attention is. About five minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import os
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
EPOCHS = 2 if FAST else 20
NUM_IMAGES = 100 if FAST else 1000
BATCH = 100

# The network: images of 28 x 28 pixels, patches of 4 x 4, three quarters of them hidden.
SIZE, PATCH, DIM, DEPTH, HEADS = 28, 4, 128, 1 if FAST else 4, 4
DECODER_DIM, DECODER_DEPTH, DECODER_HEADS = 64, 1, 2
SIDE = SIZE // PATCH  # patches along a side
COUNT, VISIBLE = SIDE**2, int(SIDE**2 * 0.25)

# %% [markdown]
# ## Patches and positions
#
# A patch is a vector of 4 x 4 x 3 numbers. Cutting is a matter of reshaping. A transformer does not
# know where a patch was, so each gets a fixed vector that says so: sines and cosines of its row in
# one half, of its column in the other.


# %%
def patchify(images: object) -> object:
    """(B, 28, 28, 3) -> (B, 49, 48)."""
    x = ops.reshape(images, (-1, SIDE, PATCH, SIDE, PATCH, 3))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, COUNT, PATCH * PATCH * 3))


def positions(dim: int) -> object:
    """(1, 49, dim)."""
    frequencies = 1 / 10000 ** (np.arange(dim // 4) / (dim // 4))
    rows, columns = np.divmod(np.arange(COUNT), SIDE)
    waves = [at[:, None] * frequencies for at in (columns, rows)]
    table = np.concatenate([f(w) for w in waves for f in (np.sin, np.cos)], axis=1)
    return ops.convert_to_tensor(table[None], "float32")


# %% [markdown]
# ## A block
#
# Attention, then two dense layers, each after a norm and added to what came in.


# %%
class Block(layers.Layer):
    """A transformer block: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1 = layers.LayerNormalization(epsilon=1e-6)
        self.attention = layers.MultiHeadAttention(heads, dim // heads)
        self.norm2 = layers.LayerNormalization(epsilon=1e-6)
        self.expand = layers.Dense(4 * dim, activation="gelu")
        self.contract = layers.Dense(dim)

    def call(self, x: object) -> object:
        y = self.norm1(x)
        x = x + self.attention(y, y)
        return x + self.contract(self.expand(self.norm2(x)))


# %% [markdown]
# ## The masked autoencoder
#
# `call` is the whole method. Hiding is done by shuffling: sort the patches by random numbers, keep
# the first quarter, encode it. Then append mask tokens, put everything back into its place by the
# inverse of the shuffle, and decode.
#
# `compute_loss` is the squared error on hidden patches, each patch normalised by its own mean and
# standard deviation.


# %%
class ScratchMAE(keras.Model):
    """MAE in plain Keras."""

    def __init__(self):
        super().__init__()
        self.embed = layers.Dense(DIM)
        self.encoder = [Block(DIM, HEADS) for _ in range(DEPTH)]
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.shrink = layers.Dense(DECODER_DIM)
        self.mask_token = self.add_weight(shape=(1, 1, DECODER_DIM), initializer="random_normal")
        self.decoder = [Block(DECODER_DIM, DECODER_HEADS) for _ in range(DECODER_DEPTH)]
        self.decoder_norm = layers.LayerNormalization(epsilon=1e-6)
        self.paint = layers.Dense(PATCH * PATCH * 3)
        self.seed = keras.random.SeedGenerator(0)

    def encode(self, tokens: object) -> object:
        for block in self.encoder:
            tokens = block(tokens)
        return self.norm(tokens)

    def call(self, images: object) -> object:
        tokens = self.embed(patchify(images)) + positions(DIM)  # (B, 49, 128)
        batch = ops.shape(tokens)[0]
        order = ops.argsort(keras.random.uniform((batch, COUNT), seed=self.seed), axis=1)
        back = ops.argsort(order, axis=1)
        kept = order[:, :VISIBLE, None]
        visible = self.shrink(self.encode(ops.take_along_axis(tokens, kept, axis=1)))
        masks = ops.broadcast_to(self.mask_token, (batch, COUNT - VISIBLE, DECODER_DIM))
        x = ops.concatenate([visible, masks], axis=1)
        x = ops.take_along_axis(x, back[:, :, None], axis=1) + positions(DECODER_DIM)
        for block in self.decoder:
            x = block(x)
        hidden = ops.cast(back >= VISIBLE, "float32")  # (B, 49), 1 = hidden
        return self.paint(self.decoder_norm(x)), hidden

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        painted, hidden = y_pred
        target = patchify(x)
        target = target - ops.mean(target, axis=-1, keepdims=True)
        target = target / (ops.std(target, axis=-1, keepdims=True) + 1e-6)
        error = ops.mean(ops.square(painted - target), axis=-1)
        return ops.sum(error * hidden) / ops.sum(hidden)


# %% [markdown]
# ## Train it
#
# Keras' `fit` needs images and nothing else. The learning rate rises at first, since the first
# gradients of a new transformer are wild, and then falls along a cosine.

# %%
source = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "train"), count=NUM_IMAGES)
images = np.stack([source.image(i) for i in range(len(source))]).astype("float32")
images = (images / 255 - images.mean() / 255) / (images.std() / 255)
STEPS = EPOCHS * (len(images) // BATCH)


def optimizer() -> keras.optimizers.Optimizer:
    """AdamW as MAE uses it."""
    rate = mimzoo.optimizers.WarmupCosine(2e-3, total_steps=STEPS, warmup_steps=STEPS // 20)
    return keras.optimizers.AdamW(rate, weight_decay=0.05, beta_2=0.95)


keras.utils.set_random_seed(0)
scratch = ScratchMAE()
scratch.compile(optimizer())
start = time.perf_counter()
by_hand = scratch.fit(images, batch_size=BATCH, epochs=EPOCHS, verbose=0).history["loss"]
print(f"by hand: {scratch.count_params():,} weights, loss {by_hand[0]:.2f} -> {by_hand[-1]:.2f}")
print(f"{len(images) * EPOCHS / (time.perf_counter() - start):.0f} images per second")

# %% [markdown]
# ## The same with mimzoo
#
# A task is a backbone, a masking, a decoder and a target, here all of MAE's kind. The class token,
# which our hundred lines left out, is switched off.

# %%
keras.utils.set_random_seed(0)
backbone = mimzoo.models.ViTBackbone(
    image_shape=(SIZE, SIZE, 3),
    patch_size=PATCH,
    embed_dim=DIM,
    depth=DEPTH,
    num_heads=HEADS,
    class_token=False,
)
decoder = mimzoo.pretraining.MAEDecoder(DECODER_DIM, DECODER_DEPTH, DECODER_HEADS)
task = mimzoo.pretraining.MAE(backbone, decoder=decoder, preprocessor=None)
task.compile(optimizer())
start = time.perf_counter()
with_mimzoo = task.fit(images, batch_size=BATCH, epochs=EPOCHS, verbose=0).history["loss"]
print(
    f"mimzoo: {task.count_params():,} weights, loss {with_mimzoo[0]:.2f} -> {with_mimzoo[-1]:.2f}"
)
print(f"{len(images) * EPOCHS / (time.perf_counter() - start):.0f} images per second")

# %% [markdown]
# Masks, order and first weights are drawn by other rules, so the curves are not the same, but they
# end close to each other. mimzoo counts the tables of positions as weights: that is the difference
# in their number.

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
epochs = np.arange(1, EPOCHS + 1)
axes.plot(epochs, by_hand, "-o", ms=4, color="#0072B2", label="by hand")
axes.plot(epochs, with_mimzoo, "--s", ms=4, color="#D55E00", label="mimzoo")
axes.set(xlabel="epoch", ylabel="loss on hidden patches")
axes.xaxis.get_major_locator().set_params(integer=True)
axes.grid(alpha=0.3)
axes.legend()

# %% [markdown]
# ## What the hundred lines do not have
#
# - The same masks for every evaluation, so that two runs can be compared; masks that do not depend
#   on the batch size or the machine.
# - Weights under which others find them: `task.backbone.save_to_preset("my_vit")`, then
#   `ImageClassifier.from_preset("my_vit", num_classes=10)`.
# - Other image sizes, half precision, several devices, checkpoints.
# - Other targets, other backbones, and tests against the official code.
#
# ## Exercise
#
# 1. In `compute_loss`, leave out the normalisation of patches. What does the loss mean now? Can you
#    compare it with the one before?
# 2. Encode all patches, and mask tokens among them, as SimMIM and BEiT do. How many images per
#    second?
# 3. Give the decoder four blocks. Does the loss fall? Do you expect better features?
