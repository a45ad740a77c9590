"""The adaptive threshold ``k_learn``: a small network, one threshold for each sequence."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from adaptiverec.model.initialization import small_normal

__all__ = ["AdaptiveThreshold"]


@keras.saving.register_keras_serializable("adaptiverec")
class AdaptiveThreshold(keras.layers.Layer):
    """Maps a sequence's representation to its similarity threshold.

    A network of H → H/8 → 1 units on ``f(s)``, squashed by ``2.1 * (sigmoid(x) - 0.5)``
    onto (-1.05, 1.05), a little more than the range of the cosine: so a threshold can
    also turn down every pair, or none (poster, "Adaptive Threshold").

    Example:
        >>> AdaptiveThreshold()(keras.ops.zeros((4, 64))).shape
        TensorShape([4])
    """

    def build(self, input_shape: tuple[int | None, int]) -> None:
        """Creates the two dense layers for `[batch, hidden_dim]`."""
        hidden_dim = input_shape[-1]
        self.hidden = keras.layers.Dense(
            max(hidden_dim // 8, 1),
            activation="gelu",
            kernel_initializer=small_normal(),
            name="hidden",
        )
        self.output_unit = keras.layers.Dense(
            1, kernel_initializer=small_normal(), name="output_unit"
        )
        self.hidden.build(input_shape)
        self.output_unit.build((*input_shape[:-1], self.hidden.units))

    def call(self, representations: Any) -> Any:
        """Computes the thresholds.

        Args:
            representations: ``f(s)``, float tensor of shape `[batch, hidden_dim]`.

        Returns:
            Float tensor of shape `[batch]`.
        """
        logits = self.output_unit(self.hidden(representations))
        return 2.1 * (ops.sigmoid(logits[:, 0]) - 0.5)
