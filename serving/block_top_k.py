"""The exact k best rows of a matrix for each query, without a full sort or a full copy.

The scores of a part of the matrix are computed at a time, so that memory stays the same
whatever the batch. Within a part, the k blocks of rows with the greatest maximums are
found first: the k best rows are in them, and only their scores are sorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from adaptiverec.serving.flat_ids import FlatIds, counts_by_row

__all__ = ["best_rows", "block_size_for", "padded_rows", "pairs_top_k"]

# Scores computed at a time: 16 MB. A request of one row goes through a million items at
# once, and a batch of 32 through parts that stay in the cache.
_SCORES_AT_A_TIME = 1 << 22
_LOWEST = float("-inf")

Scorer = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def block_size_for(num_rows: int) -> int:
    """Rows a block, a power of two: about the square root of a tenth of the rows.

    To find the k best of n, n / size maximums and k * size scores are looked at; that is
    least where size is the square root of n / k, and k is mostly about 10.
    """
    return 2 ** min(max(round(math.log2(max(num_rows, 1) / 10) / 2), 4), 9)


def padded_rows(num_rows: int) -> int:
    """The number of rows rounded up to whole blocks."""
    size = block_size_for(num_rows)
    return -(-num_rows // size) * size


def best_rows(
    scorer: Scorer,
    num_matrix_rows: int,
    num_queries: tf.Tensor,
    k: tf.Tensor,
    *,
    block_size: int,
    candidates: range,
    excluded: FlatIds,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best rows for each query, best first, equal scores in the order of rows.

    Args:
        scorer: Gives the scores of the rows `[start, end)`, two int32 scalars, as float
            `[end - start, num_queries]`.
        num_matrix_rows: A multiple of `block_size`.
        num_queries: Int32 scalar.
        k: Int32 scalar, at least 1 and at most the number of candidates.
        block_size: Of :func:`block_size_for`, or another.
        candidates: The rows to look through.
        excluded: Rows that must not be found, of each query; others and repeats do no
            harm.

    Returns:
        Scores, float `[num_queries, k]`, minus infinity where there is no further row;
        and the rows, int32 of the same shape.
    """
    blocks_at_a_time = _SCORES_AT_A_TIME // tf.maximum(num_queries, 1) // block_size
    rows_at_a_time = tf.maximum(blocks_at_a_time, 1) * block_size

    def part(
        start: tf.Tensor, scores: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        end = tf.minimum(start + rows_at_a_time, num_matrix_rows)
        inside = excluded.where((excluded.ids >= start) & (excluded.ids < end))
        part_scores, part_rows = _best_of_part(
            scorer(start, end),
            start,
            k,
            block_size=block_size,
            candidates=candidates,
            excluded=inside,
        )
        # Earlier rows come first, as they do where scores are equal.
        scores = tf.concat([scores, part_scores], axis=1)
        rows = tf.concat([rows, part_rows], axis=1)
        scores, order = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
        return end, scores, tf.gather(rows, order, batch_dims=1)

    _, scores, rows = tf.while_loop(
        lambda start, scores, rows: start < num_matrix_rows,
        part,
        (
            tf.constant(0),
            tf.zeros([num_queries, 0]),
            tf.zeros([num_queries, 0], tf.int32),
        ),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, None]),
            tf.TensorShape([None, None]),
        ),
        # Parts one after the other: side by side they would take memory side by side.
        parallel_iterations=1,
    )
    return scores, rows


def _best_of_part(
    scores: tf.Tensor,
    start: tf.Tensor,
    k: tf.Tensor,
    *,
    block_size: int,
    candidates: range,
    excluded: FlatIds,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best rows, at most k, of the scores of the rows from `start` on."""
    num_queries = excluded.num_rows
    # In place: nobody else has the scores.
    places = (excluded.ids - start) * num_queries + excluded.rows
    scores = tf.tensor_scatter_nd_update(
        tf.reshape(scores, [-1]), places[:, None], tf.fill(tf.shape(places), _LOWEST)
    )
    # With rows first the product of matrices is twice as fast, and maximums of blocks
    # are taken of many queries at once.
    blocks = tf.reshape(scores, [-1, block_size, num_queries])
    maximums = tf.transpose(tf.reduce_max(blocks, axis=1))
    # Rows that are no candidates are at both ends of the matrix.
    found = tf.minimum(k + 2, tf.shape(maximums)[1])
    _, numbers = tf.math.top_k(maximums, found)
    # In their order in the matrix, so that equal scores are found in that order.
    numbers = tf.sort(numbers, axis=1)
    rows = numbers[:, :, None] * block_size + tf.range(block_size)
    rows = tf.reshape(rows, [num_queries, found * block_size])
    best = tf.gather(scores, rows * num_queries + tf.range(num_queries)[:, None])
    rows += start
    best = tf.where(
        (rows >= candidates.start) & (rows < candidates.stop), best, _LOWEST
    )
    best, order = tf.math.top_k(best, tf.minimum(k, found * block_size))
    return best, tf.gather(rows, order, batch_dims=1)


def pairs_top_k(
    scores: tf.Tensor, pairs: FlatIds, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best of some rows for each query.

    Args:
        scores: Float `[n]`.
        pairs: Which row of the matrix and which query each is of; in order, no pair
            twice.
        k: Int32 scalar.

    Returns:
        As of :func:`best_rows`, the rows being 0 where there is none.
    """
    counts = counts_by_row(pairs.ids > 0, pairs)
    starts = tf.cumsum(counts, exclusive=True)
    columns = tf.range(tf.size(pairs.ids)) - tf.gather(starts, pairs.rows)
    shape = tf.stack([pairs.num_rows, tf.maximum(tf.reduce_max(counts), k)])
    places = tf.stack([pairs.rows, columns], axis=1)
    table = tf.tensor_scatter_nd_update(tf.fill(shape, _LOWEST), places, scores)
    best, order = tf.math.top_k(table, k)
    rows = tf.scatter_nd(places, pairs.ids, shape)
    return best, tf.gather(rows, order, batch_dims=1)
