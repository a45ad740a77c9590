"""Causal multi-head self-attention."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.model.initialization import small_normal
from adaptiverec.model.position_wise_dense import PositionWiseDense

__all__ = ["SelfAttention"]


@keras.saving.register_keras_serializable("adaptiverec")
class SelfAttention(keras.layers.Layer):
    """Scaled dot-product attention of each position to itself and those before it.

    Vaswani et al. 2017, section 3.2. `keras.layers.MultiHeadAttention` would do, but for
    the reason that :class:`~.position_wise_dense.PositionWiseDense` gives.

    Args:
        num_heads: Divides the size of the states.
        dropout: Rate, for the attention weights.
    """

    def __init__(self, *, num_heads: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = dropout

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the projections for states of shape `[batch, length, hidden_dim]`."""
        hidden_dim = input_shape[-1]

        def projection(name: str) -> PositionWiseDense:
            layer = PositionWiseDense(
                hidden_dim, kernel_initializer=small_normal(), name=name
            )
            layer.build(input_shape)
            return layer

        self.query = projection("query")
        self.key = projection("key")
        self.value = projection("value")
        self.projection = projection("projection")
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout")

    def call(
        self, queries: Any, states: Any, positions: Any, *, training: bool = False
    ) -> Any:
        """Attends.

        Args:
            queries: Float tensor of shape `[batch, num_queries, hidden_dim]`: the states
                of the positions whose output is wanted.
            states: Float tensor of shape `[batch, length, hidden_dim]`.
            positions: Where in the sequence the queries stand, int tensor of shape
                `[batch or 1, num_queries]`.
            training: Whether to drop out.

        Returns:
            Float tensor of the shape of `queries`.
        """
        query = self._split_heads(self.query(queries))
        key = self._split_heads(self.key(states))
        value = self._split_heads(self.value(states))
        scale = 1.0 / math.sqrt(query.shape[-1])
        scores = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))
        key_positions = ops.arange(ops.shape(states)[1], dtype=positions.dtype)
        later = key_positions[None, None, None, :] > positions[:, None, :, None]
        # Far below any score, yet finite in half precision too.
        scores = scores - 1e4 * ops.cast(later, scores.dtype)
        weights = self.dropout(tf.nn.softmax(scores), training=training)
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return self.projection(ops.reshape(mixed, ops.shape(queries)))

    def _split_heads(self, states: Any) -> Any:
        """`[batch, length, hidden_dim]` to `[batch, num_heads, length, head_dim]`."""
        batch_size, length = ops.shape(states)[0], ops.shape(states)[1]
        head_dim = states.shape[-1] // self.num_heads
        shape = [batch_size, length, self.num_heads, head_dim]
        return ops.transpose(ops.reshape(states, shape), (0, 2, 1, 3))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
        }
