"""Causal multi-head self-attention."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.dropout import Dropout
from adaptiverec.model.initialization import small_normal
from adaptiverec.model.packed_batch import PackedBatch

__all__ = ["SelfAttention"]


@keras.saving.register_keras_serializable("adaptiverec")
class SelfAttention(keras.layers.Layer):
    """Scaled dot-product attention of each position to itself and those before it.

    Vaswani et al. 2017, section 3.2. `keras.layers.MultiHeadAttention` takes padded
    batches alone; and its batched products of `[batch, 1, n]` by a matrix corrupt the heap
    of TensorFlow 2.21 with oneDNN, in training and in a model server alike
    (tensorflow/tensorflow#117700).

    Args:
        num_heads: Divides the size of the states.
        dropout: Rate, for the attention weights.
    """

    def __init__(self, *, num_heads: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = dropout

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the projections for states of shape `[tokens, hidden_dim]`."""
        hidden_dim = input_shape[-1]
        if hidden_dim is None:
            raise InvalidValueError(
                "The size of the states must be known. Received: input_shape="
                f"{input_shape}"
            )
        self._scale = 1.0 / math.sqrt(hidden_dim // self.num_heads)

        def projection(name: str) -> keras.layers.Dense:
            layer = keras.layers.Dense(
                hidden_dim,
                kernel_initializer=small_normal(),
                dtype=self.dtype_policy,
                name=name,
            )
            layer.build(input_shape)
            return layer

        self.query = projection("query")
        self.key = projection("key")
        self.value = projection("value")
        self.projection = projection("projection")
        self.dropout = Dropout(
            self.dropout_rate, dtype=self.dtype_policy, name="dropout"
        )

    def call(self, states: Any, *, batch: PackedBatch, training: bool = False) -> Any:
        """Attends from every token.

        Args:
            states: Float tensor of shape `[tokens, hidden_dim]`.
            batch: Where the tokens belong.
            training: Whether to drop out.

        Returns:
            Float tensor of the same shape.
        """

        def attention(query: Any, key: Any, value: Any) -> Any:
            scores = tf.matmul(query * self._scale, key, transpose_b=True)
            places = tf.range(tf.shape(key)[2])
            later = places[None, :] > places[:, None]
            weights = self._weights(scores, later, training=training)
            return tf.matmul(weights, value)

        mixed = batch.attend(
            attention,
            self.query(states),
            self.key(states),
            self.value(states),
            num_heads=self.num_heads,
        )
        return self.projection(mixed)

    def from_last(
        self, states: Any, *, batch: PackedBatch, training: bool = False
    ) -> Any:
        """Attends from the last token of each sequence alone.

        With a single query, it is less work to bring the query to the states than all
        states to keys and values. With x a state, of each head:

        - ``q . (x W_k + b_k) = (q W_k^T) . x + q . b_k``
        - ``sum_j a_j (x_j W_v + b_v) = (sum_j a_j x_j) W_v + (sum_j a_j) b_v``

        Args:
            states: Float tensor of shape `[tokens, hidden_dim]`.
            batch: Where the tokens belong.
            training: Whether to drop out.

        Returns:
            Float tensor of shape `[batch, hidden_dim]`.
        """

        def attention(states: Any, last: Any, query: Any, constant: Any) -> Any:
            scores = tf.matmul(query, states, transpose_b=True) + constant[:, :, None]
            places = tf.range(tf.shape(states)[1])
            later = places[None, None, :] > last[:, None, None]
            weights = self._weights(scores, later, training=training)
            mixed = tf.matmul(weights, states)
            total = tf.reduce_sum(weights, axis=2, keepdims=True)
            return tf.concat([mixed, total], axis=2)

        queries = self.query(tf.gather(states, batch.last_tokens)) * self._scale
        heads = [
            tf.split(tensor, self.num_heads, axis=-1)
            for tensor in (queries, self.key.kernel, self.key.bias[None, :])
        ]
        queries = [
            tf.matmul(q, w, transpose_b=True) for q, w, _ in zip(*heads, strict=True)
        ]
        constants = [
            tf.reduce_sum(q * b, axis=1) for q, _, b in zip(*heads, strict=True)
        ]
        mixed = batch.attend_from_sequences(
            attention,
            states,
            batch.last_positions,
            tf.stack(queries, axis=1),
            tf.stack(constants, axis=1),
        )
        heads = [
            tf.unstack(mixed, self.num_heads, axis=1),
            tf.split(self.value.kernel, self.num_heads, axis=1),
            tf.split(self.value.bias, self.num_heads),
        ]
        values = [
            tf.matmul(head[:, :-1], w) + head[:, -1:] * b
            for head, w, b in zip(*heads, strict=True)
        ]
        return self.projection(tf.concat(values, axis=1))

    def _weights(self, scores: Any, later: Any, *, training: bool) -> Any:
        # Far below any score, yet finite in half precision too.
        scores -= 1e4 * tf.cast(later, scores.dtype)
        return self.dropout(tf.nn.softmax(scores), training=training)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
        }
