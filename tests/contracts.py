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
from gradients import forward
from keras import ops

from mimzoo.models import MixMIMBackbone, SwinBackbone, SwinV2Backbone, ViTBackbone
from mimzoo.models.backbone import Backbone

SHAPE = (16, 24, 3)
VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
STAGES = {"patch_size": 2, "embed_dim": 16, "depths": (2, 1), "num_heads": (2, 4), "window_size": 4}
FAMILIES = {
    "vit": (ViTBackbone, VIT),
    "swin": (SwinBackbone, STAGES),
    "swin_v2": (SwinV2Backbone, {**STAGES, "norm_interval": 2}),
    "mixmim": (MixMIMBackbone, {**STAGES, "window_size": (4, 4)}),
}
Make = Callable[..., Backbone]


def awake(backbone: keras.Model) -> keras.Model:
    """Random norms and tables: a new Swin V2's norms are zero, and its blocks change nothing."""
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
    """Finite tokens of the shape that the graph says; calling and walking the graph agree."""
    backbone, x = awake(make()), pixels()
    tokens = forward(backbone, {"images": x, "masks": x})
    assert tokens.shape == (2, *backbone.output.shape[1:])
    assert np.isfinite(tokens).all()
    graph = forward(keras.Model(backbone.input, backbone.output), x)
    np.testing.assert_allclose(graph, tokens, rtol=1e-4, atol=1e-5)


def check_step(make: Make, folder: Path) -> None:
    """A step of `fit` with drop path moves every weight, and as far where blocks recompute."""
    x, after = pixels(16), []
    for remat in (False, True):
        keras.utils.set_random_seed(1)
        backbone = awake(make(drop_path_rate=0.5, remat=remat))
        before = [ops.convert_to_numpy(v) for v in backbone.trainable_variables]
        backbone.compile(keras.optimizers.SGD(0.1), "mse")
        target = np.ones((16, *backbone.output.shape[1:]), "float32")
        history = backbone.fit(x, target, batch_size=16, shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"][0])
        after.append([ops.convert_to_numpy(v) for v in backbone.trainable_variables])
        for old, new, variable in zip(before, after[-1], backbone.trainable_variables, strict=True):
            assert not np.array_equal(old, new), variable.path
    for plain, recomputed in zip(*after, strict=True):
        np.testing.assert_allclose(recomputed, plain, rtol=1e-4, atol=1e-5)


def check_preset(make: Make, folder: Path) -> None:
    """A preset gives the same numbers, and takes images of other sizes."""
    backbone, x = awake(make()), pixels()
    backbone.save_to_preset(folder)
    same = type(backbone).from_preset(str(folder), image_shape=SHAPE)
    np.testing.assert_array_equal(forward(same, x), forward(backbone, x))
    for shape in ((8, 40, 3), (32, 32, 3)):
        other = type(backbone).from_preset(str(folder), image_shape=shape)
        more = (shape[0] * shape[1] - SHAPE[0] * SHAPE[1]) // backbone.stride**2
        assert other.output.shape[1] == backbone.output.shape[1] + more
    assert np.isfinite(forward(other, pixels(1, shape))).all()


def check_bfloat16(make: Make, folder: Path) -> None:
    """Mixed precision stays close, and gives bfloat16."""
    plain, mixed = twin(make, dtype="mixed_bfloat16")
    expected, tokens = (forward(backbone, pixels()) for backbone in (plain, mixed))
    assert tokens.dtype == "bfloat16"
    assert np.abs(np.float32(tokens) - expected).max() < 0.1 * np.abs(expected).max()


def check_hooks(make: Make, folder: Path) -> None:
    """Torch's forward hooks on every layer inside every block are called."""
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
    """Deep copies, pickles and `.keras` files are the same backbone, and stand apart."""
    backbone, x = awake(make(drop_path_rate=0.1)), pixels()
    weights = backbone.get_weights()
    backbone.save(folder / "model.keras")
    for other in (
        pickle.loads(pickle.dumps(backbone)),
        keras.saving.load_model(folder / "model.keras"),
        copied := copy.deepcopy(backbone),
    ):
        assert type(other) is type(backbone)
        assert other.get_config() == backbone.get_config()
        for ours, theirs in zip(weights, other.get_weights(), strict=True):
            np.testing.assert_array_equal(theirs, ours)
    np.testing.assert_array_equal(forward(copied, x), forward(backbone, x))
    copied.set_weights([2 * w for w in weights])
    for ours, theirs in zip(weights, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def check_export(make: Make, folder: Path) -> None:
    """Exported, or called first in inference mode, a torch backbone works on as before."""
    torch = pytest.importorskip("torch")
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
    """Maps and blocks' outputs make a model: plain dicts and tuples."""
    backbone = awake(make())
    maps, blocks = backbone.pyramid_outputs, backbone.intermediate_outputs
    assert (type(maps), type(blocks)) == (dict, tuple)
    assert len(blocks) == sum(hasattr(layer, "drop_path") for layer in backbone.layers)
    model = keras.Model(backbone.input, {**maps, "blocks": blocks, "tokens": backbone.output})
    outputs = model.predict(pixels(), verbose=0)
    for name in maps:
        stride = 2 ** int(name[1:])
        assert outputs[name].shape[1:3] == (SHAPE[0] // stride, SHAPE[1] // stride)
    last = outputs[f"P{backbone.stride.bit_length() - 1}"]
    expected = ops.convert_to_numpy(backbone.feature_map(outputs["tokens"]))
    np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-5)


def check_wrong_shape(make: Make, folder: Path) -> None:
    """Images of another shape are an error, and leave the backbone as it was."""
    backbone, x = make(), pixels()
    right = backbone.predict(x, verbose=0)
    for wrong in (x[:, :8], np.repeat(x, 2, axis=1), x[..., :1], x[0], np.concatenate([x, x], 3)):
        for call in (backbone, lambda x: backbone.predict(x, verbose=0), backbone.embed):
            with pytest.raises(ValueError, match=r"(?i)shape"):
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
    assert all(np.any(v) for v in map(ops.convert_to_numpy, backbone.trainable_variables))
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
        with pytest.raises(ValueError, match=r"\(H, W, C\), but Keras is set to channels_first"):
            make()
    finally:
        keras.config.set_image_data_format("channels_last")


# Those after which one backend is as good as another are run on torch only.
ANYWHERE = [check_copies, check_lora, check_arguments, check_hooks, check_export]
CHECKS = [check_forward, check_step, check_preset, check_bfloat16, check_pyramid, check_wrong_shape]
SHOWN_BY_ONE = [check_pyramid, check_wrong_shape]
