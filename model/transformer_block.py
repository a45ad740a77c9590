"""One block of causal self-attention and a position-wise feed-forward network."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from adaptiverec.model.dropout import Dropout
from adaptiverec.model.gelu import gelu
from adaptiverec.model.initialization import small_normal
from adaptiverec.model.layer_norm import LayerNorm
from adaptiverec.model.low_pass import LowPass
from adaptiverec.model.packed_batch import PackedBatch
from adaptiverec.model.self_attention import SelfAttention

__all__ = ["TransformerBlock"]


@keras.saving.register_keras_serializable("adaptiverec")
class TransformerBlock(keras.layers.Layer):
    """Transformer block: self-attention, then a feed-forward network, with residuals.

    Each sublayer's output is normalised together with its residual, as in SASRec (Kang &
    McAuley 2018, section III) as BERT has it. A low-pass filter beside attention has a
    norm of its own, and what is mixed are the normalised sums (Shin et al. 2024, BSARec).

    Args:
        num_heads: Attention heads; divides the size of the states.
        inner_dim: Units of the feed-forward network's hidden layer.
        dropout: Rate for attention weights and for both sublayers' outputs.
        low_pass_share: Share of a low-pass filter in the first sublayer, beside
            attention's; 0 is attention alone.
        low_pass_frequencies: Of that filter, see :class:`~.low_pass.LowPass`.
        max_length: Longest sequence, in items; for that filter alone.
        epsilon: Of the layer normalisations.
    """

    def __init__(
        self,
        *,
        num_heads: int,
        inner_dim: int,
        dropout: float,
        low_pass_share: float = 0.0,
        low_pass_frequencies: int = 3,
        max_length: int = 50,
        epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.inner_dim = inner_dim
        self.dropout_rate = dropout
        self.low_pass_share = low_pass_share
        self.low_pass_frequencies = low_pass_frequencies
        self.max_length = max_length
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the sublayers for states of shape `[tokens, hidden_dim]`."""
        hidden_dim = input_shape[-1]
        dtype = self.dtype_policy
        self.attention = SelfAttention(
            num_heads=self.num_heads,
            dropout=self.dropout_rate,
            dtype=dtype,
            name="attention",
        )
        self.low_pass = None
        if self.low_pass_share:
            self.low_pass = LowPass(
                max_length=self.max_length,
                num_frequencies=self.low_pass_frequencies,
                dtype=dtype,
                name="low_pass",
            )
            self.low_pass_norm = LayerNorm(
                epsilon=self.epsilon, dtype=dtype, name="low_pass_norm"
            )
            self.low_pass.build(input_shape)
            self.low_pass_norm.build(input_shape)
        self.inner = keras.layers.Dense(
            self.inner_dim,
            activation=gelu,
            kernel_initializer=small_normal(),
            dtype=dtype,
            name="inner",
        )
        self.outer = keras.layers.Dense(
            hidden_dim, kernel_initializer=small_normal(), dtype=dtype, name="outer"
        )
        self.attention_norm = LayerNorm(
            epsilon=self.epsilon, dtype=dtype, name="attention_norm"
        )
        self.inner_norm = LayerNorm(
            epsilon=self.epsilon, dtype=dtype, name="inner_norm"
        )
        self.dropout = Dropout(self.dropout_rate, dtype=dtype, name="dropout")
        self.attention.build(input_shape)
        self.attention_norm.build(input_shape)
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.inner_dim))
        self.inner_norm.build(input_shape)

    def call(
        self,
        states: Any,
        *,
        batch: PackedBatch,
        last_only: bool = False,
        training: bool = False,
    ) -> Any:
        """Computes the block's output.

        Args:
            states: Float tensor of shape `[tokens, hidden_dim]`.
            batch: Where the tokens belong.
            last_only: Whether to compute the output at the last token of each sequence
                alone: all that the last block is asked for.
            training: Whether to drop out.

        Returns:
            Float tensor of the shape of `states`, or `[batch, hidden_dim]` with
            `last_only`.
        """
        attend = self.attention.from_last if last_only else self.attention
        own = tf.gather(states, batch.last_tokens) if last_only else states
        attended = attend(states, batch=batch, training=training)
        attended = self.attention_norm(own + self.dropout(attended, training=training))
        if self.low_pass is not None:
            smooth = self.low_pass.from_last if last_only else self.low_pass
            smoothed = self.dropout(smooth(states, batch=batch), training=training)
            smoothed = self.low_pass_norm(own + smoothed)
            share = self.low_pass_share
            attended = (1.0 - share) * attended + share * smoothed
        inner = self.outer(self.inner(attended))
        return self.inner_norm(attended + self.dropout(inner, training=training))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "inner_dim": self.inner_dim,
            "dropout": self.dropout_rate,
            "low_pass_share": self.low_pass_share,
            "low_pass_frequencies": self.low_pass_frequencies,
            "max_length": self.max_length,
            "epsilon": self.epsilon,
        }
