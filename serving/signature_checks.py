"""Checks of what a request holds, as ops of the graph; they fail with INVALID_ARGUMENT."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["check_k", "check_lengths", "check_rows"]

_SHOWN = 10


def check_k(k: tf.Tensor, num_rows: tf.Tensor) -> list[tf.Operation]:
    """Checks `k`, int32 `[any]`: at least 1, and one element or one for each row."""
    return [
        _check(tf.reduce_all(k >= 1), ["k must be at least 1. Received:", k]),
        check_rows("k", k, num_rows),
    ]


def check_rows(name: str, value: tf.Tensor, num_rows: tf.Tensor) -> tf.Operation:
    """Checks that an input has one row, or one for each row of the batch."""
    rows = tf.shape(value)[0]
    return _check(
        (rows == 1) | (rows == num_rows),
        [
            f"{name} must have one {'row' if value.shape.rank > 1 else 'element'}, or one "
            "for each history. Received:",
            rows,
            "for histories:",
            num_rows,
        ],
    )


def check_lengths(name: str, lengths: tf.Tensor, values: tf.Tensor) -> tf.Operation:
    """Checks that the lengths of rows, int64 `[batch]`, add up to the values."""
    total = tf.size(values, tf.int64)
    return _check(
        # None is above the total either, or their sum might overflow to it.
        tf.reduce_all((lengths >= 0) & (lengths <= total))
        & (tf.reduce_sum(lengths) == total),
        [
            f"{name}_lengths must not be negative and must add up to the number of "
            f"{name}_values. Received:",
            lengths,
            "for values:",
            tf.size(values),
        ],
    )


def _check(condition: tf.Tensor, data: list) -> tf.Operation:
    # tf.debugging.Assert would wrap the op in a conditional, which costs more than it.
    return tf.raw_ops.Assert(
        condition=condition,
        data=[tf.convert_to_tensor(each) for each in data],
        summarize=_SHOWN,
    )
