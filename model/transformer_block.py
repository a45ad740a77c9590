"""One block of causal self-attention and a position-wise feed-forward network."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.model.initialization import small_normal
from adaptiverec.model.position_wise_dense import PositionWiseDense
from adaptiverec.model.self_attention import SelfAttention

__all__ = ["TransformerBlock"]


@keras.saving.register_keras_serializable("adaptiverec")
class TransformerBlock(keras.layers.Layer):
    """Post-norm transformer block, as in SASRec (Kang & McAuley 2018, section III).

    Args:
        num_heads: Attention heads; divides the size of the states.
        inner_dim: Units of the feed-forward network's hidden layer.
        dropout: Rate for attention weights and for both sublayers' outputs.
        epsilon: Of the layer normalisations.
    """

    def __init__(
        self,
        *,
        num_heads: int,
        inner_dim: int,
        dropout: float,
        epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.inner_dim = inner_dim
        self.dropout_rate = dropout
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the sublayers for states of shape `[batch, length, hidden_dim]`."""
        hidden_dim = input_shape[-1]
        self.attention = SelfAttention(
            num_heads=self.num_heads, dropout=self.dropout_rate, name="attention"
        )
        self.inner = PositionWiseDense(
            self.inner_dim,
            activation="gelu",
            kernel_initializer=small_normal(),
            name="inner",
        )
        self.outer = PositionWiseDense(
            hidden_dim, kernel_initializer=small_normal(), name="outer"
        )
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, name="attention_norm"
        )
        self.inner_norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, name="inner_norm"
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout")
        self.attention.build(input_shape)
        self.attention_norm.build(input_shape)
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.inner_dim))
        self.inner_norm.build(input_shape)

    def call(
        self,
        states: Any,
        *,
        last_positions: Any = None,
        training: bool = False,
    ) -> Any:
        """Computes the block's output.

        Padding stands at the end of a sequence, where no earlier position can attend to
        it, so causality is the only mask that whole sequences need.

        Args:
            states: Float tensor of shape `[batch, length, hidden_dim]`.
            last_positions: Int tensor of shape `[batch]`, to compute the output of this
                position of each sequence alone: all that the last block is asked for.
            training: Whether to drop out.

        Returns:
            Float tensor of the shape of `states`, or `[batch, 1, hidden_dim]` with
            `last_positions`.
        """
        if last_positions is None:
            positions = ops.arange(ops.shape(states)[1])[None, :]
            queries = states
        else:
            positions = last_positions[:, None]
            queries = tf.gather(states, positions, batch_dims=1)
        attended = self.attention(queries, states, positions, training=training)
        states = self.attention_norm(
            queries + self.dropout(attended, training=training)
        )
        inner = self.outer(self.inner(states))
        return self.inner_norm(states + self.dropout(inner, training=training))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "inner_dim": self.inner_dim,
            "dropout": self.dropout_rate,
            "epsilon": self.epsilon,
        }
