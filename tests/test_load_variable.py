"""Linear layers read their weights in few copies: the right ones, of any file, or an error."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from mimzoo.backend import blank, load_variable, weights
from mimzoo.layers.linear import Linear, blank_weights


def model(units: int = 4, **options) -> keras.Sequential:
    return keras.Sequential([keras.Input((3,)), Linear(units, **options), Linear(units)])


def numbers(of) -> list[np.ndarray]:
    return [np.float32(ops.convert_to_numpy(ops.cast(w, "float32"))) for w in of.weights]


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("shards", [False, True])
def test_what_was_saved_is_loaded(tmp_path, use_bias, shards):
    saved, other = model(40, use_bias=use_bias), model(40, use_bias=use_bias)
    if shards:
        path = tmp_path / "model.weights.json"
        saved.save_weights(path, max_shard_size=6.2e-6)
        assert len(list(tmp_path.glob("*.h5"))) > 1
    else:
        path = tmp_path / "model.weights.h5"
        saved.save_weights(path)
    other.load_weights(path)
    same(numbers(other), numbers(saved))


@pytest.mark.parametrize("of_file", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("of_model", ["float32", "bfloat16", "float16"])
def test_other_precisions(tmp_path, of_file, of_model):
    saved, other = model(dtype=of_file), model(dtype=of_model)
    saved.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    rounding = 0 if of_model in ("float32", of_file) else 1e-2
    for a, b in zip(numbers(other), numbers(saved), strict=True):
        np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding)
    assert keras.backend.standardize_dtype(other.layers[0].kernel.dtype) == of_model


def test_another_shape_is_an_error(tmp_path):
    model(4).save_weights(tmp_path / "model.weights.h5")
    other = model(5)
    before = numbers(other)
    with pytest.raises(ValueError, match=r"(?s)shape=\(3, 5\).*\[?3, 4\]?"):
        other.load_weights(tmp_path / "model.weights.h5")
    same(numbers(other), before)


def test_lora_and_quantized_layers_load_as_dense(tmp_path):
    saved, adapted = model(), model()
    saved.save_weights(tmp_path / "model.weights.h5")
    adapted.layers[0].enable_lora(2)
    adapted.layers[0].lora_kernel_b.assign(np.ones((2, 4)))
    adapted.load_weights(tmp_path / "model.weights.h5")
    x = np.ones((1, 3), "float32")
    same([ops.convert_to_numpy(adapted(x))], [ops.convert_to_numpy(saved(x))])
    saved.quantize("int8")
    saved.save_weights(tmp_path / "int8.weights.h5")
    quantized = model()
    quantized.quantize("int8")
    quantized.load_weights(tmp_path / "int8.weights.h5")
    same(numbers(quantized), numbers(saved))


def test_a_link_out_of_the_file_is_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    model().save_weights(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.zeros((3, 4), "float32")
    with h5py.File(path, "r+") as file:
        group = file["layers/linear/vars"]
        del group["0"]
        group["0"] = h5py.ExternalLink("other.h5", "/secret")
    with pytest.raises(ValueError, match="Not allowed"):
        model().load_weights(path)


def test_arrays_that_are_no_file():
    layer = Linear(2)
    layer.build((None, 3))
    kernel = np.arange(6, dtype="float32").reshape(3, 2)
    layer.load_own_variables({"0": kernel, "1": np.ones(2, "float32")})
    same(numbers(layer), [kernel, np.ones(2)])
    with pytest.raises(ValueError, match="shape"):
        load_variable(layer.kernel, {"0": kernel.T}, "0")


def test_blank_weights_of_one_shape_are_apart():
    with blank_weights():
        layers = [Linear(3), Linear(3)]
        for layer in layers:
            layer.build((None, 3))
    first, second = (layer.kernel for layer in layers)
    if keras.config.backend() == "jax":
        assert first.value is second.value
    first.assign(np.ones((3, 3)))
    second.assign(np.full((3, 3), 2.0))
    first.assign_add(np.ones((3, 3)))
    same([ops.convert_to_numpy(k) for k in (first, second)], [np.full((3, 3), 2.0)] * 2)
    assert all(shape == (3,) for shape, _ in weights._ZEROS)
    assert keras.backend.standardize_dtype(blank((2,), "bfloat16").dtype) == "bfloat16"
    assert tuple(blank((2, 5)).shape) == (2, 5)
