"""The same model as one would write it with Keras' own layers.

Sequences are padded to one length, `MultiHeadAttention` with a causal mask looks across
them, all positions go through all blocks, and gradients are left to TensorFlow. Weights,
objective, data and the loop are those of `AdaptiveRec`.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.sequence_encoder import SequenceEncoder, sequence_lengths
from adaptiverec.model.total_loss import TotalLoss

__all__ = ["KerasLayersEncoder", "KerasLayersModel"]

_EPSILON = 1e-12


class _Block(keras.layers.Layer):
    def __init__(self, like: SequenceEncoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        dim, rate = like.hidden_dim, like.dropout_rate
        self.attention = keras.layers.MultiHeadAttention(
            like.num_heads, dim // like.num_heads, dropout=rate
        )
        self.inner = keras.layers.Dense(like.inner_dim, activation="gelu")
        self.outer = keras.layers.Dense(dim)
        self.attention_norm = keras.layers.LayerNormalization(epsilon=_EPSILON)
        self.inner_norm = keras.layers.LayerNormalization(epsilon=_EPSILON)
        self.dropout = keras.layers.Dropout(rate)
        self.dim = dim

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the sublayers."""
        self.attention.build(input_shape, input_shape)
        self.attention_norm.build(input_shape)
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.inner.units))
        self.inner_norm.build(input_shape)

    def call(self, states: Any, *, training: bool = False) -> Any:
        """`[batch, length, dim]` to the same."""
        attended = self.attention(
            states, states, use_causal_mask=True, training=training
        )
        states = self.attention_norm(states + self.dropout(attended, training=training))
        inner = self.outer(self.inner(states))
        return self.inner_norm(states + self.dropout(inner, training=training))


class KerasLayersEncoder(keras.layers.Layer):
    """``f(s)``, of the sizes of another encoder."""

    def __init__(self, like: SequenceEncoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = like.hidden_dim
        self.num_items = like.num_items
        self.item_embedding = keras.layers.Embedding(
            like.num_items + 2, like.hidden_dim
        )
        self.position_embedding = keras.layers.Embedding(
            like.max_length, like.hidden_dim
        )
        self.norm = keras.layers.LayerNormalization(epsilon=_EPSILON)
        self.dropout = keras.layers.Dropout(like.dropout_rate)
        self.blocks = [_Block(like) for _ in like.blocks]

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights."""
        states = (None, None, self.hidden_dim)
        self.item_embedding.build()
        self.position_embedding.build()
        self.norm.build(states)
        for block in self.blocks:
            block.build(states)

    def call(self, item_ids: Any, *, training: bool = False) -> Any:
        """`[batch, length]` to `[batch, hidden_dim]`."""
        states = self.item_embedding(item_ids)
        states += self.position_embedding(ops.arange(ops.shape(item_ids)[1]))
        states = self.dropout(self.norm(states), training=training)
        for block in self.blocks:
            states = block(states, training=training)
        last = ops.maximum(sequence_lengths(item_ids) - 1, 0)
        return tf.gather(states, last, batch_dims=1)

    def encode_by_length(self, item_ids: Any, *, training: bool = False) -> Any:
        """The same: there is no grouping."""
        return self(item_ids, training=training)

    @property
    def item_vectors(self) -> Any:
        """E."""
        return self.item_embedding.embeddings[1 : self.num_items + 1]


class KerasLayersModel(AdaptiveRec):
    """`AdaptiveRec` with that encoder, and the loss left to automatic differentiation."""

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights, of the other encoder."""
        self.encoder = KerasLayersEncoder(self.encoder, name="keras_encoder")
        self.total_loss = TotalLoss(
            encoder=self.encoder,
            next_item=_next_item_loss,
            contrast=self.contrast,
            views=self.views,
            contrastive_weight=0.1,
            seed_generator=self.seed_generator,
        )
        super().build(input_shape)


def _next_item_loss(
    states: Any, item_vectors: Any, targets: Any, *_: Any, **__: Any
) -> Any:
    scores = ops.matmul(states, ops.transpose(item_vectors))
    return ops.mean(
        ops.sparse_categorical_crossentropy(targets - 1, scores, from_logits=True)
    )
