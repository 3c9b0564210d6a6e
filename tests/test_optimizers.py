"""LayerDecay around every optimizer: the update, its state and its files."""

import math

import keras
import numpy as np
import pytest

from mimzoo import optimizers

BACKEND = keras.backend.backend()
SCALES = optimizers.vit_layer_decay_scales(2, 0.5)
FLAT = [(".*", 1.0)]


class Token(keras.layers.Layer):
    def build(self, input_shape):
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]), initializer="ones", name="class_token"
        )

    def call(self, x):
        return x + self.token[:, 0]


class Block(keras.layers.Layer):
    def build(self, input_shape):
        self.qkv = keras.layers.Dense(4, name="qkv")
        self.qkv.build(input_shape)
        self.norm = keras.layers.LayerNormalization(name="norm1")
        self.norm.build(input_shape)

    def call(self, x):
        return x + self.qkv(self.norm(x))


class TinyViT(keras.Sequential):
    def layer_decay_scales(self, layer_decay):
        return optimizers.vit_layer_decay_scales(2, layer_decay)


def tiny_vit(cls=TinyViT):
    keras.utils.set_random_seed(0)
    return cls(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="patch_embed"),
            Token(name="embed"),
            Block(name="block_0"),
            Block(name="block_1"),
            keras.layers.LayerNormalization(name="norm"),
            keras.layers.Dense(2, name="predictions"),
        ],
        name="tiny",
    )


def variables(count=3):
    rng = np.random.default_rng(0)
    shapes = [(3, 2), (4,), (2, 2, 2), ()]
    return [
        keras.Variable(rng.normal(size=shapes[i]).astype("float32"), name=f"v{i}")
        for i in range(count)
    ]


def gradients(targets, steps):
    rng = np.random.default_rng(1)
    return [[rng.normal(size=v.shape).astype("float32") for v in targets] for _ in range(steps)]


def run(optimizer, targets, grads):
    optimizer.build(targets)
    for step in grads:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], targets)
    return values(targets)


def values(targets):
    return [keras.ops.convert_to_numpy(v.value) for v in targets]


def run_stateless(optimizer, targets, grads):
    optimizer.build(targets)
    weights, state = [v.value for v in targets], [v.value for v in optimizer.variables]
    for step in grads:
        step = [keras.ops.convert_to_tensor(g) for g in step]
        weights, state = optimizer.stateless_apply(state, step, weights)
    return [keras.ops.convert_to_numpy(w) for w in weights]


def assert_near(got, want, atol=1e-6):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)


def data(count=32):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(count, 3)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32")


# The others of Keras go through the same lines.
EVERYWHERE = ("sgd", "adamw", "muon")
INNER = {
    "sgd": lambda rate, **kw: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **kw),
    "adam": lambda rate, **kw: keras.optimizers.Adam(rate, **kw),
    "adamw": lambda rate, **kw: keras.optimizers.AdamW(rate, **{"weight_decay": 0.1, **kw}),
    "lion": lambda rate, **kw: keras.optimizers.Lion(rate, weight_decay=0.1, **kw),
    "nadam": lambda rate, **kw: keras.optimizers.Nadam(rate, **kw),
    "ftrl": lambda rate, **kw: keras.optimizers.Ftrl(rate, **kw),
    "adafactor": lambda rate, **kw: keras.optimizers.Adafactor(rate, **kw),
    "muon": lambda rate, **kw: keras.optimizers.Muon(rate, adam_weight_decay=0.1, **kw),
}


NAMES = [
    pytest.param(name, marks=[] if name in EVERYWHERE else [pytest.mark.one_backend])
    for name in INNER
]


def schedule():
    return optimizers.WarmupCosine(0.02, total_steps=8, warmup_steps=2, start=0.01)


# === The update ===


@pytest.mark.parametrize("steps", [1, 5])
def test_matches_adamw_written_in_numpy(steps):
    targets = variables()
    want = [v.astype("float64") for v in values(targets)]
    grads = gradients(targets, steps)
    rate, decay, b1, b2, eps = 0.02, 0.3, 0.9, 0.95, 1e-8
    multiplier, decayed = [0.25, 1.0, 0.5], [True, False, True]  # v1 is a vector
    m, v = [0.0] * 3, [0.0] * 3
    for t, step in enumerate(grads, start=1):
        for i, g in enumerate(step):
            lr = rate * multiplier[i]
            want[i] *= 1 - lr * decay * decayed[i]
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g.astype("float64") ** 2
            alpha = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
            want[i] -= alpha * m[i] / (np.sqrt(v[i]) + eps)
    inner = keras.optimizers.AdamW(rate, decay, b1, b2, eps)
    scales = [("v0", 0.25), ("v2", 0.5), (".*", 1.0)]
    got = run(optimizers.LayerDecay(inner, scales, decay_vectors=False), targets, grads)
    assert_near(got, want)


@pytest.mark.parametrize("name", NAMES)
def test_multipliers_of_one_are_the_inner_optimizer(name):
    plain, wrapped = variables(), variables()
    grads = gradients(plain, 3)
    want = run(INNER[name](schedule()), plain, grads)
    got = run(optimizers.LayerDecay(INNER[name](schedule()), FLAT), wrapped, grads)
    if keras.backend.backend() == "torch" and name in ("adam", "adamw"):
        assert_near(got, want)  # fused: the same, rounded elsewhere
        return
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_each_variable_moves_as_if_alone_at_its_rate(name):
    multipliers = [0.25, 1.0, 0.5, 0.25]
    together = variables(4)
    grads = gradients(together, 4)
    scales = [("v[03]$", 0.25), ("v1", 1.0), ("v2", 0.5)]
    got = run(optimizers.LayerDecay(INNER[name](schedule()), scales), together, grads)
    for i, multiplier in enumerate(multipliers):
        alone = variables(4)[i : i + 1]
        rate = schedule()
        rate.peak, rate.start = rate.peak * multiplier, rate.start * multiplier
        want = run(INNER[name](rate), alone, [[step[i]] for step in grads])
        assert_near(got[i : i + 1], want)


@pytest.mark.parametrize("name", NAMES)
def test_zero_freezes(name):
    targets = variables()
    before = values(targets)
    inner = INNER[name](0.1)
    grads = gradients(targets, 2)
    after = run(optimizers.LayerDecay(inner, [("v0", 0.0), (".*", 0.5)]), targets, grads)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[2] - after[2]).max() > 0


def test_global_norm_is_over_all_variables():
    targets = variables()
    before = values(targets)
    grads = gradients(targets, 1)
    norm = math.sqrt(sum(float((g**2).sum()) for g in grads[0]))
    inner = keras.optimizers.SGD(1.0, global_clipnorm=0.5)
    after = run(optimizers.LayerDecay(inner, [("v0", 0.1), (".*", 1.0)]), targets, grads)
    for old, new, g, scale in zip(before, after, grads[0], [0.1, 1.0, 1.0], strict=True):
        np.testing.assert_allclose(old - new, scale * g * 0.5 / norm, atol=1e-6)


def test_gradient_accumulation():
    scales = [("v0", 0.1), (".*", 1.0)]
    accumulated, averaged = variables(), variables()
    grads = gradients(accumulated, 4)
    means = [[(a + b) / 2 for a, b in zip(*grads[i : i + 2], strict=True)] for i in (0, 2)]
    inner = INNER["adamw"](0.01, gradient_accumulation_steps=2, global_clipnorm=1.0)
    got = run(optimizers.LayerDecay(inner, scales), accumulated, grads)
    inner = INNER["adamw"](0.01, global_clipnorm=1.0)
    assert_near(got, run(optimizers.LayerDecay(inner, scales), averaged, means), atol=1e-5)


def test_moving_average_is_put_in_place():
    targets = variables()
    grads = gradients(targets, 3)
    inner = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer = optimizers.LayerDecay(inner, [("v0", 0.1), (".*", 1.0)])
    path, average = values(targets), None
    optimizer.build(targets)
    for step in grads:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], targets)
        path = [p - 0.1 * s * g for p, g, s in zip(path, step, [0.1, 1, 1], strict=True)]
        average = (
            path
            if average is None
            else [0.5 * a + 0.5 * p for a, p in zip(average, path, strict=True)]
        )
    assert_near(values(targets), path)
    optimizer.finalize_variable_values(targets)
    assert_near(values(targets), average)


def test_swap_ema_callback_and_fit_use_the_average():
    model = tiny_vit()
    model.compile(
        optimizers.LayerDecayAdamW(model, 0.05, 0.5, use_ema=True, ema_momentum=0.9),
        "sparse_categorical_crossentropy",
    )
    x, y = data()
    model.fit(x, y, verbose=0, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=False)])
    average = values(model.optimizer.inner_optimizer._model_variables_moving_average)
    assert_near(values(model.trainable_variables), average, atol=0)


@pytest.mark.skipif(BACKEND != "jax", reason="stateless updates are JAX's")
def test_stateless_apply_in_a_jitted_step():
    import jax

    plain, pure = variables(), variables()
    grads = gradients(plain, 3)
    scales = [("v0", 0.1), (".*", 1.0)]
    want = run(optimizers.LayerDecay(INNER["adamw"](schedule()), scales), plain, grads)
    optimizer = optimizers.LayerDecay(INNER["adamw"](schedule()), scales)
    optimizer.build(pure)
    state = [v.value for v in optimizer.variables]
    weights = [v.value for v in pure]
    step = jax.jit(optimizer.stateless_apply)
    for g in grads:
        weights, state = step(state, g, weights)
    assert_near([np.asarray(w) for w in weights], want)


# === In a model ===


def test_fit_trains_and_keeps_the_frozen_part():
    model = tiny_vit()
    scales = [("patch_embed", 0.0), (".*", 1.0)]
    optimizer = optimizers.LayerDecay(keras.optimizers.AdamW(0.05), scales)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    logits = model.layers[-1]
    logits.activation = keras.activations.softmax
    before = values(model.get_layer("patch_embed").weights)
    x, y = data()
    history = model.fit(x, y, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]
    assert_near(values(model.get_layer("patch_embed").weights), before, atol=0)
    assert int(optimizer.iterations) == 32


def compiled(rate=None, **kwargs):
    model = tiny_vit(keras.Sequential)
    model.layer_decay_scales = lambda decay: optimizers.vit_layer_decay_scales(2, decay)
    rate = rate or optimizers.WarmupCosine(0.01, 12, 3)
    optimizer = optimizers.LayerDecayAdamW(model, rate, 0.5, no_weight_decay=["token"], **kwargs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def fit(model):
    x, y = data()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return values(model.trainable_variables)


def test_save_load_continue_is_uninterrupted(tmp_path):
    straight = compiled(global_clipnorm=1.0)
    fit(straight)
    want = fit(straight)
    stopped = compiled(global_clipnorm=1.0)
    fit(stopped)
    stopped.save(tmp_path / "model.keras")
    objects = {"Token": Token, "Block": Block}
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=objects)
    optimizer = loaded.optimizer
    assert isinstance(optimizer, optimizers.LayerDecay)
    assert optimizer.get_config() == stopped.optimizer.get_config()
    assert optimizer._decayed == stopped.optimizer._decayed
    assert_near(values(optimizer.variables), values(stopped.optimizer.variables), atol=0)
    assert_near(fit(loaded), want, atol=1e-7)


def test_slots_are_saved_once(tmp_path):
    import h5py

    model = compiled()
    fit(model)
    model.save_weights(tmp_path / "m.weights.h5")
    names = []
    with h5py.File(tmp_path / "m.weights.h5") as file:
        file["optimizer"].visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    assert len(names) == len(model.optimizer.variables)


def test_variables_round_trip():
    first, second = compiled(), compiled()
    fit(first)
    second.set_weights(first.get_weights())
    second.optimizer.build(second.trainable_variables)
    second.optimizer.set_weights(values(first.optimizer.variables))
    assert_near(fit(second), fit(first), atol=1e-7)


def test_rate_can_be_set_and_read():
    model = compiled(rate=0.01)
    model.optimizer.learning_rate = 0.002
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    rate = schedule()
    scheduled = optimizers.LayerDecay(keras.optimizers.Adam(rate), FLAT)
    assert float(scheduled.learning_rate) == pytest.approx(0.01)


def test_inside_loss_scaling():
    scales = [("v0", 0.1), (".*", 1.0)]
    plain, scaled = variables(), variables()
    grads = gradients(plain, 3)
    want = run(optimizers.LayerDecay(INNER["adamw"](0.01), scales), plain, grads)
    inner = INNER["adamw"](0.01, loss_scale_factor=4.0)
    outer = keras.optimizers.LossScaleOptimizer(
        optimizers.LayerDecay(inner, scales), initial_scale=8.0
    )
    # Eager loss scaling leaks tracers on JAX, with or without us; fit uses the stateless form.
    update = run_stateless if BACKEND == "jax" else run
    got = update(outer, scaled, [[g * 8 for g in step] for step in grads])
    assert_near(got, want)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(outer))
    assert again.inner_optimizer.scales == outer.inner_optimizer.scales


def test_loss_scale_factor_of_the_inner_optimizer():
    plain, scaled = variables(), variables()
    grads = gradients(plain, 2)
    want = run(optimizers.LayerDecay(INNER["adamw"](0.01), FLAT), plain, grads)
    optimizer = optimizers.LayerDecay(INNER["adamw"](0.01, loss_scale_factor=4.0), FLAT)
    assert float(optimizer.scale_loss(keras.ops.ones(()))) == 4.0
    assert_near(run(optimizer, scaled, [[g * 4 for g in step] for step in grads]), want)


def test_fit_under_mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(rate=0.01)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        before = values(model.trainable_variables)
        after = fit(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(a).all() for a in after)
    assert np.abs(after[-1] - before[-1]).max() > 0
