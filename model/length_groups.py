"""Work on a batch of padded sequences group by group of similar length."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import tensorflow as tf

__all__ = ["map_by_length"]

# Each group is padded to its cap alone. Most logs are of short sequences: padding all of
# Amazon Beauty's to 50 would make six times the work.
_CAPS = (4, 8, 16, 32, 64, 128, 256, 512)


def map_by_length(
    function: Callable[[tf.Tensor], tf.Tensor],
    item_ids: tf.Tensor,
    lengths: tf.Tensor,
) -> tf.Tensor:
    """Applies a row-wise function to groups of rows of similar length.

    Args:
        function: Maps int `[rows, cap]` to float `[rows, hidden_dim]`, each row by
            itself. It is called with 0 rows where a group is empty.
        item_ids: Int tensor of shape `[batch, max_length]`, padded at the end; the
            static `max_length` must be known.
        lengths: Int tensor of shape `[batch]`.

    Returns:
        Float tensor of shape `[batch, hidden_dim]`, rows in the order of `item_ids`.
    """
    max_length = item_ids.shape[1]
    caps = [cap for cap in _CAPS if cap < max_length] + [max_length]
    # Traced once for all groups: the graph, and the time to build it, stay small.
    traced = tf.function(
        function, input_signature=[tf.TensorSpec([None, None], item_ids.dtype)]
    )
    row_indices, outputs = [], []
    for shorter, cap in itertools.pairwise([-1, *caps]):
        rows = tf.where((lengths > shorter) & (lengths <= cap))[:, 0]
        row_indices.append(rows)
        outputs.append(traced(tf.gather(item_ids, rows)[:, :cap]))
    order = tf.math.invert_permutation(tf.concat(row_indices, axis=0))
    return tf.gather(tf.concat(outputs, axis=0), order)
