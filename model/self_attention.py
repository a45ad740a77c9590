"""Causal multi-head self-attention."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

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

        def projection(name: str) -> keras.layers.Dense:
            layer = keras.layers.Dense(
                hidden_dim, kernel_initializer=small_normal(), name=name
            )
            layer.build(input_shape)
            return layer

        self.query = projection("query")
        self.key = projection("key")
        self.value = projection("value")
        self.projection = projection("projection")
        self.dropout = Dropout(self.dropout_rate, name="dropout")

    def call(
        self,
        queries: Any,
        states: Any,
        *,
        batch: PackedBatch,
        last_only: bool = False,
        training: bool = False,
    ) -> Any:
        """Attends.

        Args:
            queries: The states whose output is wanted: `states`, or with `last_only`
                those of the last tokens, float tensor of shape `[batch, hidden_dim]`.
            states: Float tensor of shape `[tokens, hidden_dim]`.
            batch: Where the tokens belong.
            last_only: Whether the queries are the last tokens alone.
            training: Whether to drop out.

        Returns:
            Float tensor of the shape of `queries`.
        """

        def attention(query: Any, key: Any, value: Any, places: Any) -> Any:
            scale = 1.0 / math.sqrt(query.shape[-1])
            scores = tf.matmul(query * scale, key, transpose_b=True)
            key_places = tf.range(tf.shape(key)[2])
            later = key_places[None, None, None, :] > places[:, None, :, None]
            # Far below any score, yet finite in half precision too.
            scores -= 1e4 * tf.cast(later, scores.dtype)
            weights = self.dropout(tf.nn.softmax(scores), training=training)
            return tf.matmul(weights, value)

        mixed = batch.attend(
            attention,
            self.query(queries),
            self.key(states),
            self.value(states),
            num_heads=self.num_heads,
            last_only=last_only,
        )
        return self.projection(mixed)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
        }
