"""A batch that `tf.distribute` has spread over replicas: what must be known of all of it.

The contrastive batch is global. Every replica encodes its own rows, gathers the
representations of all, and computes the contrastive loss of the whole batch; so the
in-batch negatives, the thresholds' target and ``|M+|`` do not depend on the number of
replicas. The similarities, a small part of a step, are computed on each of them.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["gather_rows", "mean_over_batch", "num_replicas", "replica_seed"]


def num_replicas() -> int:
    """How many replicas a step runs on; 1 without a strategy."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def gather_rows(rows: Any) -> Any:
    """The rows of all replicas, in their order, so in that of the batch.

    Args:
        rows: Float tensor of shape `[rows of this replica, …]`; replicas may have
            different numbers of rows, and none.

    Returns:
        Float tensor of shape `[batch, …]`, the same on every replica. Its gradient is the
        sum of those of all replicas.
    """
    if num_replicas() == 1:
        return rows
    return tf.distribute.get_replica_context().all_gather(rows, axis=0)


def mean_over_batch(losses: Any, counted: Any = None) -> Any:
    """This replica's share of a mean over the whole batch, times the number of replicas.

    So the mean over the replicas is the mean over the batch, even where the rows of a last
    batch do not spread evenly.

    Args:
        losses: Float tensor of shape `[rows of this replica]`.
        counted: Which rows there are, bool tensor of the same shape; None is all.

    Returns:
        Float scalar, 0 where nothing counts.
    """
    number = tf.cast(tf.shape(losses)[0], losses.dtype)
    if counted is not None:
        losses = tf.where(counted, losses, tf.zeros_like(losses))
        number = tf.reduce_sum(tf.cast(counted, losses.dtype))
    if num_replicas() > 1:
        context = tf.distribute.get_replica_context()
        number = context.all_reduce(tf.distribute.ReduceOp.SUM, number)
    return tf.math.divide_no_nan(tf.reduce_sum(losses) * num_replicas(), number)


def replica_seed(generator: keras.random.SeedGenerator) -> Any:
    """The generator's next seed; where there are several replicas, one of each its own.

    Args:
        generator: The same on all replicas.

    Returns:
        Int tensor of shape `[2]`, for TensorFlow's stateless functions.
    """
    seed = tf.cast(generator.next(), tf.int32)
    if num_replicas() == 1:
        return seed
    context = tf.distribute.get_replica_context()
    return tf.random.experimental.stateless_fold_in(
        seed, context.replica_id_in_sync_group
    )
