"""torch: steps whose layers run as graphs, traced and compiled, against steps layer by layer."""

import shutil

import keras
import numpy as np
import pytest

from mimzoo.backend import graphs
from mimzoo.backend.recompute import DOTS
from mimzoo.models import (
    ImageClassifier,
    MixMIMBackbone,
    SwinBackbone,
    SwinV2Backbone,
    ViTBackbone,
)
from mimzoo.optimizers import AdamW, LayerDecayAdamW, WarmupCosine
from mimzoo.pretraining import MAE, Data2Vec, Data2VecBackbone, InverseBlockMasking, MixMIM, SimMIM

torch = pytest.importorskip("torch")
dynamo = pytest.importorskip("torch._dynamo")

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.skipif(keras.config.backend() != "torch", reason="Keras traces whole steps there"),
]

SHAPE = (16, 16, 3)
VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3}
STAGES = {
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (2,),
    "num_heads": (2,),
    "window_size": 4,
    "drop_path_rate": 0.3,
}


def backbone(cls, **changes):
    return cls(SHAPE, **{**(STAGES if hasattr(cls, "sizes") else VIT), **changes})


TASKS = {
    "mae": lambda **c: MAE(backbone(ViTBackbone, **c), preprocessor=None),
    "simmim": lambda **c: SimMIM(backbone(SwinBackbone, **c), preprocessor=None),
    "simmim_v2": lambda **c: SimMIM(backbone(SwinV2Backbone, **c), preprocessor=None),
    "mixmim": lambda **c: MixMIM(backbone(MixMIMBackbone, **c), preprocessor=None),
    "data2vec": lambda **c: Data2Vec(
        backbone(Data2VecBackbone, **c),
        masking=InverseBlockMasking(masks_per_image=2),
        preprocessor=None,
    ),
    "finetune": lambda **c: ImageClassifier(backbone(ViTBackbone, **c), 3, preprocessor=None),
    "finetune_windows": lambda **c: ImageClassifier(
        backbone(ViTBackbone, class_token=False, window_size=3, global_attention_blocks=(1,), **c),
        3,
        preprocessor=None,
    ),
}


@pytest.fixture
def compiled(monkeypatch):
    """`torch.compile` without a compiler of C++, and what it counts."""
    usual = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **kw: usual(f, **{**kw, "backend": "aot_eager"})
    )
    dynamo.reset()
    dynamo.utils.counters.clear()
    return dynamo.utils.counters


def make(name, seed=1, **changes):
    keras.utils.set_random_seed(seed)
    return TASKS[name](**changes)


def compile_task(task, **kwargs):
    rate = WarmupCosine(1e-3, 60, 10)
    if isinstance(task, ImageClassifier):
        task.compile(LayerDecayAdamW(task, rate), "sparse_categorical_crossentropy", [], **kwargs)
    else:
        task.compile(AdamW(task, rate), **kwargs)
    return task


def batch(task, number=0, count=4):
    images = np.random.default_rng(number).normal(size=(count, *SHAPE)).astype("float32")
    if isinstance(task, ImageClassifier):
        return images, np.arange(count) % 3
    return ({"images": images, **task.draw(np.arange(count), number, training=True)},)


def losses(task, steps=5):
    return [float(keras.Model.train_on_batch(task, *batch(task, i))) for i in range(steps)]


@pytest.mark.parametrize("name", TASKS)
def test_one_graph_a_kind_no_break_no_recompilation_and_the_same_losses(name, compiled):
    eager = losses(compile_task(make(name), run_eagerly=True))
    traced = losses(compile_task(make(name), jit_compile=False))
    np.testing.assert_allclose(traced, eager, rtol=1e-6)
    assert not compiled["stats"]
    task = compile_task(make(name), jit_compile=True)
    first = losses(task, 1)
    graphs_of_first = compiled["stats"]["unique_graphs"]
    # Blocks of the encoder, and of a decoder or teacher; norms and the layer after them.
    assert 1 <= graphs_of_first <= 5
    np.testing.assert_allclose(first, eager[:1], rtol=1e-6)
    with dynamo.config.patch(error_on_recompile=True):
        more = losses(task)
    assert compiled["stats"]["unique_graphs"] == graphs_of_first
    assert not compiled["graph_break"]
    assert len({*map(float, more)}) == 5


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for CPUs by g++")
@pytest.mark.parametrize("name", ["finetune"])
def test_gradients_of_what_is_compiled_in_earnest(name):
    """Not by `aot_eager`, which computes what eager torch does."""
    found = []
    for kwargs in ({"run_eagerly": True}, {"jit_compile": True}):
        task = compile_task(make(name, drop_path_rate=0.0), **kwargs)
        random = np.random.default_rng(0)
        for variable in task.trainable_variables:  # of a new head no gradient comes back
            variable.assign(variable.numpy() + 0.05 * random.normal(size=variable.shape))
        x, *labels = keras.tree.map_structure(keras.ops.convert_to_tensor, batch(task))
        task.compute_loss(x, labels[0] if labels else None, task(x, training=True)).backward()
        found.append({v.path: v.value.grad.numpy().copy() for v in task.trainable_variables})
    eager, compiled = found
    for path, gradient in eager.items():
        error = np.linalg.norm(compiled[path] - gradient)
        assert error <= 1e-5 * np.linalg.norm(gradient) + 1e-8, path


def test_recomputed_blocks_are_compiled_and_keep_what_their_policy_says(compiled):
    expected = losses(compile_task(make("finetune"), run_eagerly=True), 2)
    kept = {}
    for remat in (False, "full", DOTS):
        task = compile_task(make("finetune", remat=remat), jit_compile=True)
        np.testing.assert_allclose(losses(task, 2), expected, rtol=1e-6)
        sizes = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        images = torch.tensor(batch(task)[0])
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            task(images, training=True)
        kept[remat] = sum(sizes.values())
    assert kept["full"] < kept[DOTS] < kept[False]
    # Two blocks, of which one drops paths, and a norm.
    assert compiled["stats"]["unique_graphs"] == 3 * 3


def test_any_number_of_batch_sizes(compiled):
    task = compile_task(make("finetune", depth=1), jit_compile=True)
    for count in range(1, 11):  # more than the variants of a function that torch keeps
        keras.Model.predict_on_batch(task, batch(task, count=count)[0])
    assert compiled["stats"]["unique_graphs"] == 2 * 10  # the block and the norm


def test_hooks_are_called_and_then_graphs_run_again(compiled):
    task, called = compile_task(make("mae"), jit_compile=True), []
    losses(task, 1)
    part = task.backbone.blocks[1].mlp.expand
    handle = part.register_forward_hook(lambda *_: called.append(1))
    losses(task, 2)
    assert len(called) == 2
    handle.remove()
    losses(task, 1)
    assert len(called) == 2


def test_quantised_and_adapted_layers_are_seen(compiled):
    task = compile_task(make("finetune", drop_path_rate=0.0), jit_compile=True)
    images, _ = batch(task)
    before = keras.Model.predict_on_batch(task, images)
    task.backbone.enable_lora(2)
    for variable in task.backbone.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    changed = keras.Model.predict_on_batch(task, images)
    assert np.abs(changed - before).max() > 1e-2 * np.abs(before).max()
    task.graphs = graphs.Graphs(run_eagerly=True)
    eager = keras.Model.predict_on_batch(task, images)
    np.testing.assert_allclose(eager, changed, atol=1e-4 * np.abs(changed).max())
    task = compile_task(make("finetune"), jit_compile=True)
    before = keras.Model.predict_on_batch(task, images)
    task.quantize("int8")
    changed = keras.Model.predict_on_batch(task, images)
    assert 0 < np.abs(changed - before).max() < 0.2 * np.abs(before).max()


def test_gradient_accumulation_and_frozen_layers(compiled):
    found = []
    for kwargs in ({"run_eagerly": True}, {"jit_compile": True}):
        task = make("finetune")
        task.backbone.blocks[0].trainable = False
        optimizer = LayerDecayAdamW(task, 1e-3, gradient_accumulation_steps=2)
        task.compile(optimizer, "sparse_categorical_crossentropy", [], **kwargs)
        before = task.backbone.blocks[0].get_weights()
        losses(task, 4)
        for old, new in zip(before, task.backbone.blocks[0].get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)
        found.append(task.get_weights())
    for eager, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, eager, rtol=1e-4, atol=1e-6)


def test_files_and_copies_of_a_compiled_task(compiled, tmp_path):
    task = compile_task(make("mae", drop_path_rate=0.0), jit_compile=True)
    losses(task, 1)
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert loaded.graphs.jit_compile is True
    np.testing.assert_allclose(losses(loaded, 2), losses(task, 2), rtol=1e-6)


def test_a_layer_that_cannot_be_traced_runs_without_a_graph(compiled, monkeypatch, caplog):
    task = compile_task(make("mae"), jit_compile=True)
    for block in task.backbone.blocks:
        usual = block.mlp.call
        monkeypatch.setattr(block.mlp, "call", lambda x, f=usual: f(x) * float(x.sum() != 0))
    found = losses(task, 2)
    assert np.isfinite(found).all()
    assert "TransformerBlock runs operation by operation: it cannot be traced" in caplog.text


def test_no_logits_are_kept_for_the_backward_pass():
    """Of a ViT: the largest tensor that a step keeps is a block's own, not one of T x T."""
    task = compile_task(
        MAE(ViTBackbone((64, 64, 3), 4, 16, depth=2, num_heads=2), preprocessor=None)
    )
    images = np.zeros((2, 64, 64, 3), "float32")
    inputs = {"images": images, **task.draw(np.arange(2), training=True)}
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        task(inputs, training=True)
    tokens, width = 64 * 64 // 16 + 1, task.decoder.embed_dim
    assert max(sizes) <= 2 * tokens * 4 * width  # the hidden layer of the decoder's MLP
    assert max(sizes) < 2 * task.decoder.num_heads * tokens**2


def operators(step):
    """Calls of torch's operators in a step that is warm."""
    for _ in range(2):
        step()
    with torch.profiler.profile() as profile:
        step()
    return sum(event.name.startswith("aten::") for event in profile.events())


def test_a_block_has_fewer_operators_than_that_of_transformers():
    """Forward, backward and optimizer, as they are traced: in a model of four, less one of two."""
    transformers = pytest.importorskip("transformers")

    def ours(depth):
        task = make("mae", drop_path_rate=0.0, depth=depth)
        task.compile(AdamW(task, 1e-3), jit_compile=False)
        data = batch(task, count=2)
        return operators(lambda: keras.Model.train_on_batch(task, *data))

    def theirs(depth):
        config = transformers.ViTMAEConfig(
            hidden_size=16,
            num_hidden_layers=depth,
            num_attention_heads=2,
            intermediate_size=64,
            patch_size=4,
            image_size=16,
            decoder_num_hidden_layers=1,
        )
        model = transformers.ViTMAEForPreTraining(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        pixels = torch.zeros(2, 3, 16, 16)

        def step():
            optimizer.zero_grad()
            model(pixel_values=pixels).loss.backward()
            optimizer.step()

        return operators(step)

    counts = ours(4) - ours(2), theirs(4) - theirs(2)
    assert counts[0] <= counts[1], counts


def test_models_that_were_not_compiled_share_no_graphs():
    """They would keep each other's weights alive."""
    images, _ = batch(make("finetune"))
    models = [TASKS["finetune"]() for _ in range(2)]
    for model in models:
        model(images)
    assert models[0].graphs is not models[1].graphs
