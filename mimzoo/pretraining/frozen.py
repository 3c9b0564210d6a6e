"""Variables that a step reads and no file of the task holds."""

from collections.abc import Sequence

import keras


class FrozenVariables(keras.layers.Layer):
    """Holds variables that a task reads, but neither trains nor saves."""

    def __init__(self, variables: Sequence[keras.Variable], **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.held = list(variables)
        self.built = True

    def save_own_variables(self, store: dict) -> None:
        """Saves nothing."""

    def load_own_variables(self, store: dict) -> None:
        """Loads nothing."""
