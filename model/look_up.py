"""Rows of a table, with a dense gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["look_up"]


def look_up(table: Any, indices: Any, *, padding: int | None = None) -> Any:
    """`tf.gather(table, indices)`, whose gradient has the shape of the table.

    TensorFlow's own gradient lists a row for each index. Where each step needs most of
    the table anyway, adding them up once is sooner than what the optimizer makes of
    such a list: it adds them up each time that it reads it.

    Args:
        table: Float tensor or variable of shape `[rows, dim]`.
        indices: Int tensor of any shape.
        padding: Of this index the gradient is 0, whatever comes of it. Most tokens of a
            padded batch may have it, and adding them all up in one row is what GPUs do
            worst: one after the other.

    Returns:
        Float tensor of shape `[*indices.shape, dim]`.
    """

    @tf.custom_gradient
    def gathered(rows: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            counted = indices
            if padding is not None:
                # Sums leave out negative indices.
                counted = tf.where(
                    indices == padding, tf.cast(-1, indices.dtype), indices
                )
            # A sum of many in half precision would stop growing.
            whole = tf.cast(upstream, tf.float32)
            sums = tf.math.unsorted_segment_sum(whole, counted, tf.shape(rows)[0])
            return tf.cast(sums, upstream.dtype)

        return tf.gather(rows, indices), gradient

    return gathered(tf.convert_to_tensor(table))
