"""``L_basic``: the cross-entropy of the next item over the whole catalogue."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["next_item_loss"]


def next_item_loss(representations: Any, item_vectors: Any, targets: Any) -> Any:
    """``-log softmax(f(s) E^T)[target]`` of each sequence, with its gradient in closed form.

    With ``p = softmax(f(s) E^T)``, the gradient is ``p E - E[target]`` with respect to
    ``f(s)``, and ``p^T f(s)``, less ``f(s)`` in the row of the target, with respect to E.
    So the `[batch, num_items]` scores are gone over once to make p, and not again;
    automatic differentiation does so twice as often.

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
        shares = tf.nn.softmax(scores)
        # The best item's share is e^0 over the sum of e^{score - highest}: never 0, as a
        # bad target's may come out.
        log_denominators = tf.reduce_max(scores, axis=1) - tf.math.log(
            tf.reduce_max(shares, axis=1)
        )
        target_vectors = tf.gather(vectors, rows)
        target_scores = tf.cast(tf.reduce_sum(f * target_vectors, axis=1), tf.float32)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            weights = tf.cast(upstream[:, None], f.dtype)
            weighted = f * weights
            p = tf.cast(shares, f.dtype)
            to_f = (tf.matmul(p, vectors) - target_vectors) * weights
            # Half the time of p^T f(s), whose long side would be the transposed one.
            to_vectors = tf.transpose(tf.matmul(weighted, p, transpose_a=True))
            return to_f, tf.tensor_scatter_nd_sub(to_vectors, rows[:, None], weighted)

        return log_denominators - target_scores, gradient

    return closed_form(
        tf.convert_to_tensor(representations), tf.convert_to_tensor(item_vectors)
    )
