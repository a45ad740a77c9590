"""The logarithm of a sum of exponentials over some elements of each row."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["masked_logsumexp"]


def masked_logsumexp(logits: Any, mask: Any) -> Any:
    """``log sum_j e^{logits[i, j]}`` over the j where the mask is true.

    Its gradient is the softmax over these j. It is made of what the forward pass has
    computed anyway, which automatic differentiation would compute again.

    Args:
        logits: Float tensor of shape `[rows, columns]`.
        mask: Boolean tensor of the same shape, true somewhere in each row.

    Returns:
        Float tensor of shape `[rows]`.
    """

    @tf.custom_gradient
    def closed_form(logits: tf.Tensor) -> Any:
        masked = tf.where(mask, logits, logits.dtype.min)
        highest = tf.reduce_max(masked, axis=-1, keepdims=True)
        exponentials = tf.exp(masked - highest)
        sums = tf.reduce_sum(exponentials, axis=-1, keepdims=True)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return exponentials * (upstream[:, None] / sums)

        return (tf.math.log(sums) + highest)[:, 0], gradient

    return closed_form(tf.convert_to_tensor(logits))
