"""What differs in training: parameters, shares of a batch, gradients, optimizers."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras

from mimzoo.backend.constant import Tensor


class TorchParameters:
    """Mixin of models whose `parameters()`, on torch, has to list every weight.

    Keras' own list is empty for a model that sets attributes before `super().__init__()`, as
    KerasHub's do, and leaves out one of two variables with the same path. Keras' training step
    clears gradients by that list: what is missing there adds up its gradients over all steps.
    """

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The torch parameters of all variables."""
        import torch

        values = (variable.value for variable in self.variables)
        return (value for value in values if isinstance(value, torch.nn.Parameter))


class _LateInterrupt(keras.callbacks.Callback):
    """Ctrl-C in a loop of Keras waits for the end of the step; a second one does not."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped = self.interrupted = False

    def note(self, number: int, frame: Any) -> None:
        """Handles SIGINT."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.interrupted = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C came."""
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def step(self, batch: int, logs: dict | None = None) -> None:
        """Notes the end of a step."""
        self.stepped = True
        self.check()

    on_train_batch_end = on_test_batch_end = on_predict_batch_end = step


@contextmanager
def keep_weights(model: keras.Model, callbacks: Any = None, fits: bool = False) -> Iterator[Any]:
    """Where neither an error nor Ctrl-C costs a model its weights, as they would on JAX.

    Keras' loops take the weights out of the model there and put none back after an error, and a
    step that is interrupted has used up the old weights before the new ones are kept. What was
    trained before the error stays.

    Args:
        model: of the loop.
        callbacks: for the loop, in any form that Keras takes.
        fits: the loop is `fit`, which changes the optimizer, too.

    Yields:
        The callbacks, with one more on JAX.
    """
    if keras.config.backend() != "jax":
        yield callbacks
        return
    optimizer = model.optimizer if fits else None
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else ())]
    values = [(variable, variable.value) for variable in variables]
    late, callbacks = _with_late_interrupt(callbacks)
    usual = signal.default_int_handler
    changes = signal.getsignal(signal.SIGINT) is usual and (
        threading.current_thread() is threading.main_thread()
    )
    if changes:
        signal.signal(signal.SIGINT, late.note)
    try:
        yield callbacks
        late.check()
    except BaseException:
        if late.stepped:
            model.jax_state_sync()
        else:
            for variable, value in values:
                variable.assign(value)
        raise
    finally:
        if changes:
            signal.signal(signal.SIGINT, usual)


def _with_late_interrupt(callbacks: Any) -> tuple[_LateInterrupt, Any]:
    """The callback, and all of them; the one that `fit` has serves its validation, too."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        found = [one for one in callbacks.callbacks if isinstance(one, _LateInterrupt)]
        late = found[0] if found else _LateInterrupt()
        if not found:
            callbacks.append(late)
        return late, callbacks
    own = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or ())
    late = _LateInterrupt()
    return late, [*own, late]


# (number, count): which of so many equal parts of each batch this process computes. Only torch
# needs it: JAX computes on the whole batch, wherever its rows lie; TensorFlow knows its replica.
_PART = [0, 1]


def set_part(number: int, count: int) -> None:
    """Makes this process compute the part `number` of `count` of each batch."""
    _PART[:] = number, count


def uniform_rows(shape: tuple, seed: keras.random.SeedGenerator) -> Tensor:
    """Uniform numbers in [0, 1) for the rows of a batch, of any distribution over devices.

    Each device draws for the whole batch and keeps its rows, so that a run draws the same numbers
    on one device and on many.
    """
    backend, (number, count) = keras.config.backend(), _PART
    if backend == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            number, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    if count == 1:
        return keras.random.uniform(shape, seed=seed)
    rows = shape[0]
    drawn = keras.random.uniform((rows * count, *shape[1:]), seed=seed)
    return drawn[number * rows : (number + 1) * rows]


def share_of_replica(loss: Tensor) -> Tensor:
    """A mean over this replica's rows, so scaled that the sum over replicas is the mean over all.

    `tf.distribute` adds up gradients, as Keras' own losses expect; elsewhere the loss stays.
    """
    if keras.config.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def no_gradient() -> AbstractContextManager:
    """Where nothing is recorded for a backward pass.

    torch would keep a graph, and every activation in it, up to a `stop_gradient` that comes after.
    JAX and TensorFlow need the `stop_gradient` only.
    """
    if keras.config.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


def fuse_adam(optimizer: keras.optimizers.Adam) -> None:
    """Lets a new Adam or AdamW on torch step in one pass on CPUs, and let go of gradients after it.

    Keras' own step there makes a dozen passes, a seventh of a small model's training. What is
    computed is the same. Other devices and backends keep Keras' step. And Keras would hold the
    gradients, as much as the weights, until the next forward pass has filled memory.
    """
    if keras.config.backend() != "torch" or optimizer.amsgrad:
        return
    import torch
    from torch.optim.adamw import adamw

    usual = optimizer._parallel_update_step

    def step(grads: list, variables: list, learning_rate: Any) -> None:
        weights = [v.value for v in variables]
        for weight in weights:
            weight.grad = None  # whoever called holds `grads` until the step is over
        if any(w.device.type != "cpu" or w.dtype != torch.float32 for w in weights):
            usual(grads, variables, learning_rate)
            return
        done = float(optimizer.iterations)  # with gradient accumulation it is a tensor
        slots = [optimizer._get_variable_index(v) for v in variables]
        adamw(
            weights,
            grads,
            [optimizer._momentums[i].value for i in slots],
            [optimizer._velocities[i].value for i in slots],
            [],
            [torch.tensor(done) for _ in slots],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            lr=float(learning_rate),
            weight_decay=0.0,  # Keras decays apart
            # Keras adds epsilon before the correction of the second moment, torch after it.
            eps=optimizer.epsilon / (1 - optimizer.beta_2 ** (done + 1)) ** 0.5,
        )

    optimizer._parallel_update_step = step
