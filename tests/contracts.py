"""What every backbone promises, as checks of a family; `test_backbones.py` runs all on all.

A check takes `make(**changes)`, which gives a new small backbone, and an empty folder.
"""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from gradients import forward, relative_error, value_and_gradients
from keras import ops

from mimzoo.models import MixMIMBackbone, SwinBackbone, SwinV2Backbone, ViTBackbone
from mimzoo.models.backbone import Backbone

SHAPE = (16, 24, 3)
VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
STAGES = {"patch_size": 2, "embed_dim": 16, "depths": (2, 1), "num_heads": (2, 4), "window_size": 4}
FAMILIES = {
    "vit": (ViTBackbone, VIT),
    "vit of MAE's fine-tuning": (
        ViTBackbone,
        {**VIT, "position_embedding": "learned", "final_norm": False, "class_token": False},
    ),
    "vit of SimMIM": (
        ViTBackbone,
        {
            **VIT,
            "position_embedding": "none",
            "relative_position_bias": "shared",
            "qkv_bias": "qv",
            "layer_scale_init": 0.1,
        },
    ),
    "vit of BEiT": (
        ViTBackbone,
        {**VIT, "relative_position_bias": "per_block", "qkv_bias": "none"},
    ),
    "swin": (SwinBackbone, STAGES),
    "swin v2": (SwinV2Backbone, {**STAGES, "norm_interval": 2}),
    "mixmim": (MixMIMBackbone, {**STAGES, "window_size": (4, 4)}),
}
Make = Callable[..., Backbone]


def awake(backbone: keras.Model) -> keras.Model:
    """Random norms and tables: a new Swin V2's norms are zero, so that its blocks change nothing."""
    rng = np.random.default_rng(1)
    for weight in backbone.weights:
        if weight.path.endswith(("gamma", "beta", "table")):
            weight.assign(rng.normal(0.5, 0.3, weight.shape))
    return backbone


def pixels(count: int = 2, shape: tuple = SHAPE) -> np.ndarray:
    """Random images (count, *shape)."""
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


def twin(make: Make, **changes) -> tuple[Backbone, Backbone]:
    """A backbone, and one with its weights and other arguments."""
    one, other = awake(make()), make(**changes)
    other.set_weights(one.get_weights())
    return one, other


def check_forward(make: Make, folder: Path) -> None:
    """Finite tokens; arrays, lists, dicts and the graph give the same."""
    backbone, x = awake(make()), pixels()
    tokens = forward(backbone, x)
    assert tokens.shape == (2, *backbone.output.shape[1:])
    assert np.isfinite(tokens).all()
    graph = keras.Model(backbone.input, backbone.output)
    for call, inputs in ((graph, x), (backbone, {"images": x, "masks": x}), (backbone, [x])):
        np.testing.assert_allclose(forward(call, inputs), tokens, rtol=1e-4, atol=1e-5)


def check_step(make: Make, folder: Path) -> None:
    """One step of `fit` with drop path moves every weight."""
    backbone, x = awake(make(drop_path_rate=0.5)), pixels(16)
    before = [ops.convert_to_numpy(v) for v in backbone.trainable_variables]
    backbone.compile(keras.optimizers.SGD(0.1), "mse")
    history = backbone.fit(x, np.ones((16, *backbone.output.shape[1:])), batch_size=16, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    for old, variable in zip(before, backbone.trainable_variables, strict=True):
        assert not np.array_equal(old, ops.convert_to_numpy(variable)), variable.path


def check_preset(make: Make, folder: Path) -> None:
    """Saved, loaded, and loaded at the same size by name: the same numbers."""
    backbone, x = awake(make()), pixels()
    backbone.save_to_preset(folder)
    for changes in ({}, {"image_shape": SHAPE}):
        loaded = type(backbone).from_preset(str(folder), **changes)
        np.testing.assert_array_equal(forward(loaded, x), forward(backbone, x))


def check_another_size(make: Make, folder: Path) -> None:
    """A preset loaded at other sizes, larger and smaller."""
    backbone = awake(make())
    backbone.save_to_preset(folder)
    for shape in ((32, 32, 3), (8, 40, 3)):
        loaded = type(backbone).from_preset(str(folder), image_shape=shape)
        tokens = forward(loaded, pixels(1, shape))
        assert tokens.shape[1] - backbone.output.shape[1] == np.prod(shape) // 48 - 24
        assert np.isfinite(tokens).all()


def check_bfloat16(make: Make, folder: Path) -> None:
    """Mixed precision stays close, and gives bfloat16."""
    plain, mixed = twin(make, dtype="mixed_bfloat16")
    expected, tokens = (forward(backbone, pixels()) for backbone in (plain, mixed))
    assert tokens.dtype == "bfloat16"
    assert np.abs(np.float32(tokens) - expected).max() < 0.1 * np.abs(expected).max()


def check_remat(make: Make, folder: Path) -> None:
    """Recomputing activations changes neither loss nor gradients."""

    def loss(backbone: keras.Model, x: np.ndarray) -> object:
        return ops.mean(ops.square(backbone(x, training=True)))

    (right, *gradients), (found, *others) = (
        value_and_gradients(loss, backbone, pixels()) for backbone in twin(make, remat=True)
    )
    assert found == pytest.approx(right, rel=1e-5)
    for a, b in zip([others[0], *others[1]], [gradients[0], *gradients[1]], strict=True):
        assert relative_error(a, b) < 1e-4


def check_hooks(make: Make, folder: Path) -> None:
    """Torch's forward hooks on every layer inside every block are called."""
    if keras.config.backend() != "torch":
        pytest.skip("only torch has hooks")
    backbone, called = make(), set()
    parts = {
        f"{block.name}.{name}": module
        for block in backbone.layers
        if hasattr(block, "drop_path")
        for name, module in block.named_modules()
        if isinstance(module, keras.Layer)
    }
    assert sum(name.endswith((".norm1", ".attention", ".mlp.expand")) for name in parts) >= 6
    for name, module in parts.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    backbone(pixels())
    assert called == set(parts)


def check_copies(make: Make, folder: Path) -> None:
    """Deep copies, pickles and `.keras` files compute the same and stand apart."""
    backbone, x = awake(make(drop_path_rate=0.1)), pixels()
    expected = forward(backbone, x)
    backbone.save(folder / "model.keras")
    for other in (
        copy.deepcopy(backbone),
        pickle.loads(pickle.dumps(backbone)),
        keras.saving.load_model(folder / "model.keras"),
    ):
        assert type(other) is type(backbone)
        assert other.get_config() == backbone.get_config()
        np.testing.assert_array_equal(forward(other, x), expected)
        other.trainable_variables[0].assign(other.trainable_variables[0] + 1.0)
    np.testing.assert_array_equal(forward(backbone, x), expected)


def check_export(make: Make, folder: Path) -> None:
    """Exported, or called first in inference mode, a torch backbone works on as before."""
    if keras.config.backend() != "torch":
        pytest.skip("torch only")
    import torch

    backbone, x = awake(make()), torch.tensor(pixels())
    expected = awake(make())
    expected.set_weights(backbone.get_weights())
    expected = expected(x)
    program = torch.export.export(backbone, (x,))
    for tokens in (program.module()(x), backbone(x)):
        torch.testing.assert_close(tokens, expected)
    other = make()
    with torch.inference_mode():
        other(x)
    other(x, training=True).sum().backward()


def check_pyramid(make: Make, folder: Path) -> None:
    """Maps and blocks' outputs make a model, in plain dicts and tuples."""
    backbone, x = awake(make()), pixels()
    assert type(backbone.pyramid_outputs) is dict
    model = keras.Model(backbone.input, backbone.pyramid_outputs)
    maps = model.predict(x, verbose=0)
    for name, level in maps.items():
        stride = 2 ** int(name[1:])
        assert level.shape[1:3] == (SHAPE[0] // stride, SHAPE[1] // stride)
    last = f"P{backbone.stride.bit_length() - 1}"
    expected = forward(lambda x: backbone.feature_map(backbone(x)), x)
    np.testing.assert_allclose(maps[last], expected, rtol=1e-4, atol=1e-5)
    blocks = keras.Model(backbone.input, backbone.intermediate_outputs).predict(x, verbose=0)
    assert len(blocks) == sum(hasattr(layer, "drop_path") for layer in backbone.layers)


def check_wrong_shape(make: Make, folder: Path) -> None:
    """Images of another shape are an error, and leave the backbone as it was."""
    backbone, x = make(), pixels()
    right = backbone.predict(x, verbose=0)
    for wrong in (x[:, :8], np.repeat(x, 2, axis=1), x[..., :1], x[0], np.concatenate([x, x], 3)):
        for call in (backbone, lambda x: backbone.predict(x, verbose=0), backbone.embed):
            with pytest.raises(ValueError, match="(?i)shape"):
                call(wrong)
    np.testing.assert_array_equal(backbone.predict(x, verbose=0), right)
    with pytest.raises(ValueError, match="tokens an image"):
        backbone.encode(ops.zeros((1, 12, backbone.embed_dim)))


def check_lora(make: Make, folder: Path) -> None:
    """LoRA trains its kernels only, and a file of them restores the outputs."""
    backbone, other = twin(make)
    x = pixels()
    with pytest.raises(ValueError, match="no linear layer named 'norm1': LoRA adapts 'qkv'"):
        make().enable_lora(2, ["norm1"])
    backbone.enable_lora(2)
    assert {v.name for v in backbone.trainable_variables} == {"lora_kernel_a", "lora_kernel_b"}
    backbone.compile(keras.optimizers.SGD(1.0), "mse")
    backbone.fit(x, np.zeros((2, *backbone.output.shape[1:])), verbose=0)
    assert not np.allclose(forward(backbone, x), forward(other, x), atol=1e-5)
    backbone.save_lora_weights(folder / "a.lora.h5")
    other.load_lora_weights(folder / "a.lora.h5")
    np.testing.assert_allclose(forward(other, x), forward(backbone, x), atol=1e-5)
    backbone.trainable = False  # TensorFlow takes no notice of a value that does not change
    backbone.trainable = True
    with pytest.raises(ValueError, match="other weights are trainable, such as"):
        backbone.save_lora_weights(folder / "b.lora.h5")


def check_arguments(make: Make, folder: Path) -> None:
    """Unknown arguments, and images with channels first, are refused by the constructor."""
    with pytest.raises(TypeError, match="Did you mean 'drop_path_rate'"):
        make(drop_path=0.1)
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="take images .H, W, C., but Keras is set to channels"):
            make()
    finally:
        keras.config.set_image_data_format("channels_last")


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]
