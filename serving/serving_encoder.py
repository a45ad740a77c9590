"""The sequence encoder as it is served: the model's numbers, in a third of the operations.

A single request is so little arithmetic that most of its time goes into starting
operations. Keras' layers, made for training, take some 300 of them; here there are no
dropout, no shapes worked out at run time that are known, and no transpositions, the
costliest of all in small.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.model.low_pass import LowPass
from adaptiverec.model.sequence_encoder import SequenceEncoder
from adaptiverec.model.transformer_block import TransformerBlock
from adaptiverec.serving.gather_read import gather_read

__all__ = ["ServingEncoder"]

# As in the model: far below any score.
_MASKED = -1e4


class ServingEncoder(tf.Module):
    """Computes what :class:`~.sequence_encoder.SequenceEncoder` does, with its weights.

    Args:
        encoder: The trained encoder.
        item_matrix: Its item embeddings, float `[at least num_items + 1, hidden_dim]`:
            a variable that others read, too.
    """

    def __init__(self, encoder: SequenceEncoder, item_matrix: tf.Variable) -> None:
        super().__init__(name="encoder")
        self._item_matrix = item_matrix
        self._positions = _variable(encoder.position_embedding.embeddings, "positions")
        self._from_end = encoder.positions_from == "end"
        self._norm = _Norm(encoder.norm, "norm")
        self._blocks = [
            _Block(block, f"block_{index}")
            for index, block in enumerate(encoder.blocks)
        ]

    def __call__(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Encodes sequences.

        Args:
            item_ids: Dense ids, int32 `[batch, width]`, oldest first and padded at the
                end with 0; `width` is at least 1 and at most the model's `max_length`.

        Returns:
            Float `[batch, hidden_dim]`. Of a row of padding alone it means nothing.
        """
        width = tf.shape(item_ids)[1]
        lengths = tf.math.count_nonzero(item_ids, axis=1, dtype=tf.int32)
        places = tf.range(width)
        last = tf.maximum(lengths - 1, 0)
        if self._from_end:
            ago = tf.maximum(last[:, None] - places[None, :], 0)
            positions = gather_read(self._positions, ago)
        else:
            positions = self._positions[:width]
        states = self._norm(gather_read(self._item_matrix, item_ids) + positions)
        later = tf.cast(places[None, :] > places[:, None], tf.float32) * _MASKED
        for block in self._blocks[:-1]:
            states = block(states, later)
        # Only the last item's state is asked for: the last block computes no other.
        beyond = tf.cast(places[None, :] > last[:, None], tf.float32) * _MASKED
        return self._blocks[-1].last_state(states, last, beyond)


class _Block(tf.Module):
    """A transformer block, without its dropout."""

    def __init__(self, block: TransformerBlock, name: str) -> None:
        super().__init__(name=name)
        attention = block.attention
        self._num_heads = block.num_heads
        self._dim = attention.query.units
        self._low_pass_share = block.low_pass_share
        self._low_pass = None
        if block.low_pass is not None:
            self._low_pass = _LowPass(block.low_pass, "low_pass")
            self._low_pass_norm = _Norm(block.low_pass_norm, "low_pass_norm")
        # Queries come scaled out of their kernel.
        scale = 1.0 / math.sqrt(self._dim // block.num_heads)
        self._query = _Dense(attention.query, "query", scale=scale)
        self._key_value = _Dense([attention.key, attention.value], "key_value")
        self._projection = _Dense(attention.projection, "projection")
        self._attention_norm = _Norm(block.attention_norm, "attention_norm")
        self._inner = _Dense(block.inner, "inner")
        self._outer = _Dense(block.outer, "outer")
        self._inner_norm = _Norm(block.inner_norm, "inner_norm")

    def __call__(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """`[batch, width, dim]` to the same; the mask is added to `[width, width]`."""
        shape = tf.shape(states)
        rows = tf.reshape(states, [-1, self._dim])
        # One head's rows below the other's: all heads in one product of a batch.
        keys_values = self._heads(self._key_value(rows), shape, 2)
        queries = tf.concat(self._heads(self._query(rows), shape, 1), axis=0)
        keys = tf.concat(keys_values[: self._num_heads], axis=0)
        values = tf.concat(keys_values[self._num_heads :], axis=0)
        scores = tf.matmul(queries, keys, transpose_b=True) + mask
        mixed = tf.matmul(tf.nn.softmax(scores), values)
        mixed = tf.concat(tf.split(mixed, self._num_heads, axis=0), axis=2)
        attended = self._projection(tf.reshape(mixed, [-1, self._dim]))
        smooth = None
        if self._low_pass is not None:
            smooth = tf.reshape(self._low_pass(states), [-1, self._dim])
        return tf.reshape(self._rest(rows, attended, smooth), shape)

    def last_state(
        self, states: tf.Tensor, last: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """The state at place `last`, int `[batch]`, of each row: float `[batch, dim]`."""
        shape = tf.shape(states)
        rows = tf.reshape(states, [-1, self._dim])
        own = tf.gather(rows, tf.range(shape[0]) * shape[1] + last)
        queries = tf.split(self._query(own), self._num_heads, axis=1)
        keys_values = self._heads(self._key_value(rows), shape, 2)
        keys, values = keys_values[: self._num_heads], keys_values[self._num_heads :]
        mixed = []
        for query, key, value in zip(queries, keys, values, strict=True):
            # Sums of products: in TensorFlow 2.21 a product of matrices with a single
            # query a row is the case that oneDNN gets wrong.
            scores = tf.reduce_sum(key * query[:, None, :], axis=2) + mask
            weights = tf.nn.softmax(scores)
            mixed.append(tf.reduce_sum(value * weights[:, :, None], axis=1))
        attended = self._projection(tf.concat(mixed, axis=1))
        smooth = None
        if self._low_pass is not None:
            smooth = self._low_pass.at(last, states, own)
        return self._rest(own, attended, smooth)

    def _heads(self, rows: tf.Tensor, shape: tf.Tensor, times: int) -> list[tf.Tensor]:
        rows = tf.reshape(rows, [shape[0], shape[1], times * self._dim])
        return tf.split(rows, times * self._num_heads, axis=2)

    def _rest(
        self, rows: tf.Tensor, attended: tf.Tensor, smooth: tf.Tensor | None
    ) -> tf.Tensor:
        mixed = self._attention_norm(rows + attended)
        if smooth is not None:
            share = self._low_pass_share
            smoothed = self._low_pass_norm(rows + smooth)
            mixed = (1.0 - share) * mixed + share * smoothed
        return self._inner_norm(mixed + self._feed_forward(mixed))

    def _feed_forward(self, rows: tf.Tensor) -> tf.Tensor:
        inner = tf.nn.gelu(self._inner(rows), approximate=False)
        return self._outer(inner)


class _LowPass(tf.Module):
    """The low-pass filter beside attention."""

    def __init__(self, layer: LowPass, name: str) -> None:
        super().__init__(name=name)
        self._weights = _variable(layer.causal_weights, "weights")
        self._high = _variable(tf.square(layer.high_scale), "high")

    def __call__(self, states: tf.Tensor) -> tf.Tensor:
        """`[batch, width, dim]` to the same."""
        batch_size, width = tf.shape(states)[0], tf.shape(states)[1]
        # Of the rank of the states, as in the model.
        weights = tf.broadcast_to(
            self._weights[:width, :width], [batch_size, width, width]
        )
        low = tf.matmul(weights, states)
        return low + self._high * (states - low)

    def at(self, last: tf.Tensor, states: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """At the place `last` of each row, whose state is `own`: `[batch, dim]`."""
        weights = gather_read(self._weights, last)[:, : tf.shape(states)[1]]
        low = tf.reduce_sum(states * weights[:, :, None], axis=1)
        return low + self._high * (own - low)


class _Dense(tf.Module):
    """One dense layer, or several of the same input side by side."""

    def __init__(self, layers: Any, name: str, *, scale: float = 1.0) -> None:
        super().__init__(name=name)
        layers = layers if isinstance(layers, list) else [layers]
        kernels = np.concatenate([layer.kernel.numpy() for layer in layers], axis=1)
        biases = np.concatenate([layer.bias.numpy() for layer in layers])
        self._kernel = _variable(kernels * scale, "kernel")
        self._bias = _variable(biases * scale, "bias")

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.nn.bias_add(tf.matmul(rows, self._kernel), self._bias)


class _Norm(tf.Module):
    """Layer normalisation."""

    def __init__(self, norm: Any, name: str) -> None:
        super().__init__(name=name)
        self._epsilon = norm.epsilon
        self._gamma = _variable(norm.gamma, "gamma")
        self._beta = _variable(norm.beta, "beta")

    def __call__(self, states: tf.Tensor) -> tf.Tensor:
        centred = states - tf.reduce_mean(states, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        scales = tf.math.rsqrt(variance + self._epsilon)
        return centred * scales * self._gamma + self._beta


def _variable(value: Any, name: str) -> tf.Variable:
    return tf.Variable(np.asarray(value), trainable=False, dtype=tf.float32, name=name)
