"""``L_basic``: the cross-entropy of the next item over the whole catalogue."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["next_item_loss"]


def next_item_loss(representations: Any, item_vectors: Any, targets: Any) -> Any:
    """``-log softmax(f(s) E^T)[target]`` of each sequence, with its gradient in closed form.

    With ``p = softmax(f(s) E^T)``, the gradient is ``p E - E[target]`` with respect to
    ``f(s)``, and ``p^T f(s)``, less ``f(s)`` in the row of the target, with respect to E.
    So ``p`` need not be made: its numerators of the forward pass do, and the sums can be
    divided by where there are few numbers. Automatic differentiation goes over the
    `[batch, num_items]` scores twice as often.

    Args:
        representations: f(s), float tensor of shape `[batch, hidden_dim]`.
        item_vectors: E, float tensor of shape `[num_items, hidden_dim]`; row i is that
            of dense item id i + 1.
        targets: Dense item ids, int tensor of shape `[batch]`.

    Returns:
        Float tensor of shape `[batch]`.
    """
    rows = tf.cast(targets, tf.int32) - 1

    @tf.custom_gradient
    def closed_form(f: tf.Tensor, vectors: tf.Tensor) -> Any:
        scores = tf.cast(tf.matmul(f, vectors, transpose_b=True), tf.float32)
        highest = tf.reduce_max(scores, axis=1, keepdims=True)
        numerators = tf.exp(scores - highest)
        denominators = tf.reduce_sum(numerators, axis=1, keepdims=True)
        target_vectors = tf.gather(vectors, rows)
        target_scores = tf.cast(tf.reduce_sum(f * target_vectors, axis=1), tf.float32)
        losses = tf.math.log(denominators[:, 0]) + highest[:, 0] - target_scores

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            weights = tf.cast(upstream[:, None] / denominators, f.dtype)
            upstream = tf.cast(upstream[:, None], f.dtype)
            shares = tf.cast(numerators, f.dtype)
            to_f = tf.matmul(shares, vectors) * weights - target_vectors * upstream
            to_vectors = tf.matmul(shares, f * weights, transpose_a=True)
            to_vectors = tf.tensor_scatter_nd_sub(
                to_vectors, rows[:, None], f * upstream
            )
            return to_f, to_vectors

        return losses, gradient

    return closed_form(
        tf.convert_to_tensor(representations), tf.convert_to_tensor(item_vectors)
    )
