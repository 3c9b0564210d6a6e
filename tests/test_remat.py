"""Rematerialization by policies: the same gradients, fewer products again, less memory."""

import json
import weakref

import keras
import numpy as np
import pytest
from contracts import FAMILIES, SHAPE, awake, pixels
from gradients import relative_error, value_and_gradients
from keras import ops

from mimzoo.backend.recompute import DOTS
from mimzoo.models import ImageClassifier

BACKEND = keras.config.backend()
POLICIES = [False, True, DOTS]


def classifier(remat, family="vit"):
    """A small classifier with drop path and dropout, the same for each policy."""
    keras.utils.set_random_seed(1)
    cls, arguments = FAMILIES[family]
    backbone = cls(SHAPE, **arguments, drop_path_rate=0.3, remat=remat)
    return awake(ImageClassifier(backbone, 3, preprocessor=None, dropout=0.5, compile=False))


def loss(model, x):
    return ops.mean(ops.square(model(x, training=True) - 1.0))


@pytest.mark.parametrize("family", ["vit", pytest.param("swin", marks=pytest.mark.one_backend)])
def test_loss_and_gradients_are_those_without(family):
    found = []
    for remat in POLICIES[: 2 if BACKEND == "tensorflow" else 3]:
        value, gx, gradients = value_and_gradients(loss, classifier(remat, family), pixels(8))
        found.append([np.array(value), gx, *gradients])
    for others in found[1:]:
        for other, expected in zip(others, found[0], strict=True):
            assert np.any(expected)
            assert relative_error(other, expected) <= 1e-6


def jax_counts(model):
    """Products of a step, and bytes that the forward pass leaves to the backward pass."""
    import jax

    variables = model.trainable_variables

    def pure(values):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return loss(model, pixels())

    values = [v.value for v in variables]
    products = str(jax.make_jaxpr(jax.grad(pure))(values)).count("dot_general[")
    kept = jax.tree.leaves(jax.eval_shape(lambda v: jax.vjp(pure, v)[1], values))
    return products, sum(x.size * x.dtype.itemsize for x in kept)


def torch_counts(model):
    """The same."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        products, made = 0, weakref.WeakSet()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.overloadpacket.__name__
            fused = name.startswith("_scaled_dot_product") and not name.endswith("backward")
            self.products += 2 if fused else name in ("mm", "addmm", "bmm")
            out = func(*args, **kwargs or {})
            for x in keras.tree.flatten(out):
                if isinstance(x, torch.Tensor):
                    self.made.add(x.untyped_storage())
            return out

    loss(model, torch.tensor(pixels()))  # traces the layers
    with Watch() as watch:
        value = loss(model, torch.tensor(pixels()))
        kept = sum(storage.nbytes() for storage in watch.made)
        value.backward()
    return watch.products, kept


@pytest.mark.skipif(BACKEND == "tensorflow", reason="it has no policies")
def test_a_policy_recomputes_what_it_says_and_keeps_the_rest():
    counts = jax_counts if BACKEND == "jax" else torch_counts
    (plain, most), (full, least), (dots, between) = (counts(classifier(r)) for r in POLICIES)
    # Of six products of a block all but the last, whose result no gradient takes. torch computes
    # up to the last tensor that is kept, so it has the last product where paths are dropped.
    assert full - plain == {"jax": 5 + 5, "torch": 5 + 6}[BACKEND]
    assert dots - plain == 2 + 2  # those of attention
    assert least < between < most


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others have policies")
def test_tensorflow_names_what_to_use():
    model = classifier(DOTS)
    model(pixels())  # not in training
    with pytest.raises(ValueError, match="works on JAX and torch only: use remat=True"):
        model(pixels(), training=True)


@pytest.mark.one_backend
@pytest.mark.parametrize("family", FAMILIES)
def test_other_names_are_refused_and_configs_of_before_load(family):
    cls, arguments = FAMILIES[family]
    with pytest.raises(ValueError, match=f"remat must be one of .*'{DOTS}'.*, got 'dots'"):
        cls(SHAPE, **arguments, remat="dots")
    config = cls(SHAPE, **arguments, remat=DOTS).get_config()
    assert config["remat"] == DOTS
    for remat in (False, True, "full", DOTS):
        stored = json.loads(json.dumps({**config, "remat": remat}))
        assert cls.from_config(stored).get_config()["remat"] == remat


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's")
def test_a_step_donates_weights_and_moments():
    model = classifier(False)
    model.compile("adamw", "sparse_categorical_crossentropy")
    model.train_on_batch(pixels(8), np.arange(8) % 3)
    before = [v.value for v in (*model.variables, *model.optimizer.variables)]
    model.train_on_batch(pixels(8), np.arange(8) % 3)
    assert all(array.is_deleted() for array in before)
