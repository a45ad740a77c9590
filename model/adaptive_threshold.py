"""The adaptive threshold ``k_learn``: a small network, one threshold for each sequence."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from adaptiverec.common.checks import check_at_least, check_at_most
from adaptiverec.model.initialization import small_normal

__all__ = ["AdaptiveThreshold"]

# The range of a threshold is twice this, the cosine's twice 1.
_LIMIT = 1.05


@keras.saving.register_keras_serializable("adaptiverec")
class AdaptiveThreshold(keras.layers.Layer):
    """Maps a sequence's representation to its similarity threshold.

    A network of H → H/8 → 1 units on ``f(s)``, squashed by ``2.1 * (sigmoid(x) - 0.5)``
    onto (-1.05, 1.05), a little more than the range of the cosine: so a threshold can
    also turn down every pair, or none (poster, "Adaptive Threshold").

    Args:
        start: About what the thresholds of an untrained network are, from -1 to
            1. At 0 they take every second pair for a positive, at 1 none.

    Raises:
        InvalidValueError: `start` is outside its rule.

    Example:
        >>> AdaptiveThreshold()(keras.ops.zeros((4, 64))).shape
        TensorShape([4])
    """

    def __init__(self, *, start: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least("threshold_start", start, -1)
        check_at_most("threshold_start", start, 1)
        self.start = start

    def build(self, input_shape: tuple[int | None, int]) -> None:
        """Creates the two dense layers for `[batch, hidden_dim]`."""
        hidden_dim = input_shape[-1]
        self.hidden = keras.layers.Dense(
            max(hidden_dim // 8, 1),
            activation="gelu",
            kernel_initializer=small_normal(),
            dtype=self.dtype_policy,
            name="hidden",
        )
        # The squashing undone; the kernels add next to nothing before they are trained.
        logit = math.log((_LIMIT + self.start) / (_LIMIT - self.start))
        self.output_unit = keras.layers.Dense(
            1,
            kernel_initializer=small_normal(),
            bias_initializer=keras.initializers.Constant(logit),
            dtype=self.dtype_policy,
            name="output_unit",
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
        return 2.0 * _LIMIT * (ops.sigmoid(logits[:, 0]) - 0.5)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "start": self.start}
