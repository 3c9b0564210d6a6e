"""torch: what has to be true of a training step for a CUDA graph to hold it, seen on a CPU."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
from test_compiled_step import SHAPE, TASKS, backbone, batch, compile_task, losses, make

from mimzoo.backend import step_graph
from mimzoo.backend.step_graph import HostValues, StepGraph
from mimzoo.models import ImageClassifier, ImageSegmenter, ObjectDetector, SwinBackbone, ViTBackbone
from mimzoo.optimizers import LayerDecayAdamW

torch = pytest.importorskip("torch")
overrides = pytest.importorskip("torch.overrides")
TorchDispatchMode = pytest.importorskip("torch.utils._python_dispatch").TorchDispatchMode

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.skipif(keras.config.backend() != "torch", reason="Keras traces whole steps there"),
]

NAMES = "item tolist numpy cpu nonzero __bool__ __float__ __int__ __index__"
READS = [getattr(torch.Tensor, name) for name in NAMES.split()]


class NoReads(overrides.TorchFunctionMode):
    """Where a value that a GPU computes is asked for by nobody."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in READS, f"{func} reads"
        return func(*args, **kwargs or {})


class NoShapesOfValues(TorchDispatchMode):
    """Where no operator reads: to return a number, or because its result's shape is one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, index = func.overloadpacket.__name__, args[1] if len(args) > 1 else None
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "bincount"), name
        if name in ("index", "index_put", "index_put_"):
            assert not [i for i in index if i is not None and i.dtype == torch.bool], name
        return func(*args, **kwargs or {})


# Beside TASKS: heads with dropout, dense targets and the metrics that they have by default.
DENSE = {
    "dropout": lambda: ImageClassifier(backbone(ViTBackbone), 3, preprocessor=None, dropout=0.5),
    "segment": lambda: ImageSegmenter(
        backbone(ViTBackbone), 3, preprocessor=None, head_dim=8, auxiliary_dim=4
    ),
    "detect": lambda: ObjectDetector(
        backbone(SwinBackbone), 3, preprocessor=None, neck_dim=8, head_dim=8, head_depth=1
    ),
}


def made(name):
    """A compiled task, and number -> what `train_on_batch` takes."""
    if name in TASKS:
        task = compile_task(make(name))
        return task, lambda number: batch(task, number)
    keras.utils.set_random_seed(1)
    task = DENSE[name]()
    task.compile(LayerDecayAdamW(task, 1e-3))
    corners = np.array([[[1, 2, 13, 12], [0, 0, 0, 0]]] * 4, "float32")
    labels = {
        "dropout": np.arange(4) % 3,
        "segment": np.random.default_rng(0).choice([0, 1, 2, 255], (4, *SHAPE[:2])),
        "detect": {"boxes": corners, "labels": np.array([[1, -1]] * 4)},
    }[name]
    labels = keras.tree.map_structure(
        lambda x: x.astype("float32" if x.dtype == "float32" else "int32"), labels
    )
    return task, lambda number: (
        np.random.default_rng(number).normal(size=(4, *SHAPE)).astype("float32"),
        labels,
    )


def on_device(data):
    return keras.tree.map_structure(keras.ops.convert_to_tensor, data)


@pytest.mark.parametrize("name", [*TASKS, *DENSE])
def test_a_step_reads_nothing_and_takes_the_same_numbers_each_time(name):
    task, data = made(name)
    keras.Model.train_on_batch(task, *data(0))  # builds everything
    values = HostValues("cpu")
    for number, run in enumerate((values.kept, values.given, values.given)):
        x, *y = on_device(data(number))
        task.check_inputs = lambda inputs: None  # before a step
        with NoReads(), NoShapesOfValues(), run():
            logs = task.train_step((x, *y))
        assert np.isfinite(float(logs["loss"]))
    assert values.known
    assert not values.changed


def test_numbers_that_python_changes_are_noticed():
    values, count = HostValues("cpu"), iter(range(9))

    def step():
        one = torch.tensor(1.0, device="cpu")
        return float(one + torch.as_tensor(next(count), device="cpu"))

    with values.kept():
        assert step() == 1
    with values.given():
        assert step() == 2
    assert values.changed


def test_tensors_that_a_step_changes_are_given_as_they_were():
    values = HostValues("cpu")

    def step():
        return torch.tensor([1.0, 2.0], device="cpu").add_(1).tolist()

    with values.kept():
        assert step() == [2, 3]
    for _ in range(2):
        with values.given():
            assert step() == [2, 3]
    assert not values.changed


class FakeGraph:
    """A CUDA graph that runs its step again."""

    replays = 0

    def replay(self):
        self.replays += 1
        for name, value in self.step(self.batch).items():
            self.logs[name].copy_(value.detach())


@pytest.fixture
def graphed(monkeypatch):
    """Makes a task train by a StepGraph whose CUDA is this CPU; gives what it captures."""
    stream = type("Stream", (), {"wait_stream": lambda self, other: None})
    for name, value in {
        "Stream": stream,
        "current_stream": stream,
        "graph_pool_handle": lambda: None,
        "stream": contextlib.nullcontext,
        "set_stream": lambda _: None,
        "set_sync_debug_mode": lambda _: None,
        "CUDAGraph": FakeGraph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(step_graph, "_pinned", torch.as_tensor)
    monkeypatch.setattr(
        step_graph, "_on_device", lambda x: x if x is None else torch.as_tensor(x).clone()
    )
    captured = []

    def of(task):
        task.make_train_function()
        usual, last = task.train_function, {}

        def step(data):
            last["batch"], last["logs"] = data, usual(data)
            return last["logs"]

        @contextlib.contextmanager
        def graph(fake, **_):
            # What is captured is not run.
            variables = task.variables + task.metrics_variables + task.optimizer.variables
            values = [v._value for v in variables]
            values += [s.state._value for s in seeds(task)]
            before = [v.detach().clone() for v in values]
            yield
            with torch.no_grad():
                for value, old in zip(values, before, strict=True):
                    value.copy_(old)
            fake.step, fake.batch, fake.logs = usual, last["batch"], last["logs"]
            captured.append(fake)

        monkeypatch.setattr(torch.cuda, "graph", graph)
        task.train_function = StepGraph(task, step)
        return task

    of.captured = captured
    return of


def seeds(task):
    values = [v for m in task.modules() for v in vars(m).values()]
    return [v for v in values if isinstance(v, keras.random.SeedGenerator)]


@pytest.mark.parametrize("name", ["simmim", "finetune", "data2vec", *DENSE])
def test_replayed_steps_are_the_steps(name, graphed):
    found = []
    for wrap in (lambda task: task, graphed):
        task, data = made(name)
        task = wrap(task)
        logs = [keras.Model.train_on_batch(task, *data(i), return_dict=True) for i in range(7)]
        found.append(([{k: float(v) for k, v in log.items()} for log in logs], task.get_weights()))
    (expected, weights), (replayed, others) = found
    assert replayed == expected
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(other, one)
    assert [graph.replays for graph in graphed.captured] == [4]


def test_batches_of_another_size_have_their_own_graph(graphed):
    task = graphed(compile_task(make("finetune")))
    for _ in range(5):
        for count in (4, 3):
            keras.Model.train_on_batch(task, *batch(task, count=count))
    assert [graph.replays for graph in graphed.captured] == [2, 2]


def test_hooks_and_frozen_layers_are_seen(graphed):
    task, called = graphed(compile_task(make("finetune", drop_path_rate=0.0))), []
    losses(task, 4)
    handle = task.backbone.blocks[0].mlp.register_forward_hook(lambda *_: called.append(1))
    losses(task, 1)
    handle.remove()
    assert called == [1]
    assert [graph.replays for graph in graphed.captured] == [1]
    task.backbone.blocks[0].trainable = False
    before = task.backbone.blocks[0].get_weights()
    losses(task, 5)
    for old, new in zip(before, task.backbone.blocks[0].get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    assert [graph.replays for graph in graphed.captured] == [1, 2]


def test_a_step_that_cannot_be_captured_runs_as_it_is(graphed, monkeypatch, caplog):
    task = compile_task(make("finetune"))
    expected = losses(task, 6)
    task = graphed(compile_task(make("finetune")))

    @contextlib.contextmanager
    def graph(fake, **_):
        raise RuntimeError("no such thing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    assert losses(task, 6) == expected
    assert "start one kernel after another: no such thing" in caplog.text


def test_a_step_that_python_changes_is_not_captured(graphed, caplog):
    task, count = compile_task(make("finetune")), iter(range(99))
    usual = task.compute_loss
    task.compute_loss = lambda *a, **k: (
        usual(*a, **k) + keras.ops.convert_to_tensor(float(next(count)))
    )
    found = losses(graphed(task), 6)
    assert np.all(np.diff(found) > 0.5)
    assert "Python changes a number in it" in caplog.text
    assert not graphed.captured


def test_a_step_that_reads_from_the_gpu_is_not_captured(graphed, caplog):
    task = compile_task(make("finetune"))
    usual = task.compute_loss

    def compute_loss(*args, **kwargs):
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)  # as torch does
        warnings.warn("something else", stacklevel=1)
        return usual(*args, **kwargs)

    task.compute_loss = compute_loss
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert np.isfinite(losses(graphed(task), 6)).all()
    assert "test_step_graph.py, line" in caplog.text
    assert "reads from the GPU" in caplog.text
    assert not graphed.captured
    assert sum("something else" in str(warning.message) for warning in seen) == 7  # once to build
