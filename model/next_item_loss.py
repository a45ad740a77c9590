"""``L_basic``: the cross-entropy of the next item over the whole catalogue."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from adaptiverec.model.ranking import set_columns

__all__ = ["next_item_loss"]

# Of float32, whose smallest number of full precision is 1.2e-38.
_SMALLEST_SHARE = 1e-37


def next_item_loss(
    representations: Any,
    item_vectors: Any,
    targets: Any,
    history: Any = None,
    *,
    label_smoothing: float = 0.0,
) -> Any:
    """``-log softmax(f(s) E^T)[target]`` of each sequence, with its gradient in closed form.

    With ``p = softmax(f(s) E^T)``, the gradient is ``p E - E[target]`` with respect to
    ``f(s)``, and ``p^T f(s)``, less ``f(s)`` in the row of the target, with respect to E.
    So the `[batch, num_items]` scores are gone over once to make p, in their own place,
    and not again. Smoothed labels are in the loss what they are in its gradient:
    ``(1 - ε) E[target]`` plus ε times the mean of E takes the place of ``E[target]``.

    Args:
        representations: f(s), float tensor of shape `[batch, hidden_dim]`.
        item_vectors: E, float tensor of shape `[num_items, hidden_dim]`; row i is that
            of dense item id i + 1.
        targets: Dense item ids, int tensor of shape `[batch]`.
        history: Items that are no candidates, unless they are the target: dense ids, int
            tensor of shape `[batch, any]`, 0 for none; repeats are allowed. Without it,
            all items are.
        label_smoothing: ε, share of the label that all items have alike, from 0 to below
            1 (Szegedy et al. 2016, section 7); not among unseen items.

    Returns:
        Float tensor of shape `[batch]`.
    """
    rows = tf.cast(targets, tf.int32) - 1

    @tf.custom_gradient
    def closed_form(f: tf.Tensor, vectors: tf.Tensor) -> Any:
        # Nothing else reads the scores: the softmax can then take their memory.
        scores = tf.cast(tf.matmul(f, vectors, transpose_b=True), tf.float32)
        if history is not None:
            scores = _without(scores, tf.cast(history, tf.int32) - 1, rows)
        shares = tf.nn.softmax(scores)
        target_vectors = tf.gather(vectors, rows)
        label_vectors = _smoothed(target_vectors, vectors, label_smoothing)
        target_shares = tf.gather(shares, rows, batch_dims=1)

        def by_best_items() -> tf.Tensor:
            # A share that is too small for its logarithm: of the best item, whose share
            # never is, and what its score is higher.
            best = tf.argmax(shares, axis=1, output_type=tf.int32)
            behind = tf.reduce_sum(
                f * (tf.gather(vectors, best) - target_vectors), axis=1
            )
            best_shares = tf.gather(shares, best, batch_dims=1)
            return tf.cast(behind, tf.float32) - tf.math.log(best_shares)

        losses = tf.cond(
            tf.reduce_any(target_shares < _SMALLEST_SHARE),
            by_best_items,
            lambda: -tf.math.log(target_shares),
        )
        if label_smoothing:
            apart = tf.reduce_sum(f * (target_vectors - label_vectors), axis=1)
            losses += tf.cast(apart, tf.float32)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            weights = tf.cast(upstream[:, None], f.dtype)
            weighted = f * weights
            p = tf.cast(shares, f.dtype)
            to_f = (tf.matmul(p, vectors) - label_vectors) * weights
            # Half the time of p^T f(s), whose long side would be the transposed one.
            to_vectors = tf.transpose(tf.matmul(weighted, p, transpose_a=True))
            # A sum of many in half precision would stop growing.
            weighted = tf.cast(weighted, tf.float32)
            to_vectors = tf.tensor_scatter_nd_sub(
                tf.cast(to_vectors, tf.float32),
                rows[:, None],
                (1.0 - label_smoothing) * weighted,
            )
            if label_smoothing:
                num_items = tf.cast(tf.shape(vectors)[0], tf.float32)
                of_all = tf.reduce_sum(weighted, axis=0)
                to_vectors -= label_smoothing / num_items * of_all
            return to_f, tf.cast(to_vectors, vectors.dtype)

        return losses, gradient

    return closed_form(
        tf.convert_to_tensor(representations), tf.convert_to_tensor(item_vectors)
    )


def _smoothed(targets: tf.Tensor, vectors: tf.Tensor, share: float) -> tf.Tensor:
    """The vectors of the targets, with so large a share of the catalogue's mean."""
    if not share:
        return targets
    mean = tf.reduce_mean(tf.cast(vectors, tf.float32), axis=0)
    return (1.0 - share) * targets + share * tf.cast(mean, targets.dtype)


def _without(scores: tf.Tensor, history: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The scores, but minus infinity for columns of the history that are not the target."""
    # What is none, and what is the target, writes the target's score where it is.
    is_target = tf.logical_or(history < 0, history == targets[:, None])
    columns = tf.where(is_target, targets[:, None], history)
    of_targets = tf.gather(scores, targets, batch_dims=1)[:, None]
    return set_columns(scores, columns, tf.where(is_target, of_targets, float("-inf")))
