"""What an error or Ctrl-C in a loop of Keras leaves of a model."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


class _LateInterrupt(keras.callbacks.Callback):
    """Ctrl-C in a loop of Keras waits for the end of the step; a second one does not."""

    # Without it Keras would read the loss from the device in every step.
    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.stepped = self.interrupted = False

    def note(self, number: int, frame: Any) -> None:
        """Handles SIGINT."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.interrupted = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C came."""
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def begin(self, batch: int, logs: dict | None = None) -> None:
        """Where the step before has ended, and its state is kept."""
        self.stepped |= self.begun
        self.begun = True
        self.check()

    def end(self, batch: int, logs: dict | None = None) -> None:
        """Notes the end of a step: in a thread, once its loss is there."""
        self.stepped = True

    on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = begin
    on_train_batch_end = on_test_batch_end = on_predict_batch_end = end


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
