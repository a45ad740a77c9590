"""Ids of a batch of rows of any lengths, one after the other, each with its row's number.

Rows of very different lengths stand side by side here without padding: one history of
100,000 items beside a thousand short ones takes 101,000 places and not 100 million.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["FlatIds", "counts_by_row", "last_ids"]

# Above any dense id: row * _ROW + id orders by row, then by id.
_ROW = 1 << 32


class FlatIds(NamedTuple):
    """Dense item ids of a batch.

    Attributes:
        ids: Dense ids, int32 `[n]`, rows one after the other; 0 where the item is unknown
            or the place is padding.
        rows: Which row of the batch each is of, int32 `[n]`, ascending.
        num_rows: How many rows there are, int32 scalar.
    """

    ids: tf.Tensor
    rows: tf.Tensor
    num_rows: tf.Tensor

    @classmethod
    def of_matrix(cls, ids: tf.Tensor, num_rows: tf.Tensor) -> FlatIds:
        """From int32 `[num_rows or 1, width]`; a single row is repeated for all."""
        width = tf.shape(ids)[1]
        ids = tf.broadcast_to(ids, [num_rows, width])
        rows = tf.repeat(tf.range(num_rows), width)
        return cls(tf.reshape(ids, [-1]), rows, num_rows)

    @classmethod
    def of_lengths(cls, ids: tf.Tensor, lengths: tf.Tensor) -> FlatIds:
        """From the int32 ids `[n]` of all rows and the length of each, int64 `[batch]`."""
        num_rows = tf.shape(lengths)[0]
        return cls(ids, tf.repeat(tf.range(num_rows), lengths), num_rows)

    def where(self, keep: tf.Tensor) -> FlatIds:
        """Those for which `keep`, bool `[n]`, is true."""
        places = tf.where(keep)[:, 0]
        return FlatIds(
            tf.gather(self.ids, places), tf.gather(self.rows, places), self.num_rows
        )

    def and_also(self, other: FlatIds) -> FlatIds:
        """The two together, their rows no longer in order."""
        return FlatIds(
            tf.concat([self.ids, other.ids], axis=0),
            tf.concat([self.rows, other.rows], axis=0),
            self.num_rows,
        )

    def contains(self, other: FlatIds) -> tf.Tensor:
        """Which ids of `other` are among those of the same row here: bool `[other n]`."""
        # The key of no id, so that there is always one to compare with.
        mine = tf.concat([[tf.constant(-1, tf.int64)], tf.sort(self._keys())], axis=0)
        theirs = other._keys()
        places = tf.searchsorted(mine, theirs, side="right") - 1
        return tf.gather(mine, places) == theirs

    def distinct(self) -> FlatIds:
        """Each known id of each row once, rows in order and ids ascending in them."""
        keys = tf.sort(self.where(self.ids != 0)._keys())
        first = tf.concat([tf.fill(tf.shape(keys[:1]), True), keys[1:] != keys[:-1]], 0)
        keys = tf.boolean_mask(keys, first)
        return FlatIds(
            tf.cast(keys % _ROW, tf.int32),
            tf.cast(keys // _ROW, tf.int32),
            self.num_rows,
        )

    def _keys(self) -> tf.Tensor:
        return tf.cast(self.rows, tf.int64) * _ROW + tf.cast(self.ids, tf.int64)


def counts_by_row(flags: tf.Tensor, flat: FlatIds) -> tf.Tensor:
    """How many of each row's `flags`, bool `[n]`, are true: int32 `[num_rows]`."""
    return tf.math.unsorted_segment_sum(
        tf.cast(flags, tf.int32), flat.rows, flat.num_rows
    )


def last_ids(flat: FlatIds, max_length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The last known ids of each row, as the encoder takes them.

    Args:
        flat: Rows of ids; those that are 0 are skipped and take no place.
        max_length: At most so many of each row.

    Returns:
        Int32 `[num_rows, width]`, oldest first and padded at the end with 0, `width`
        being the longest of them, at least 1 and at most `max_length`; and how many ids
        of each row are known in all, int32 `[num_rows]`.
    """
    known = flat.where(flat.ids != 0)
    num_known = counts_by_row(flat.ids != 0, flat)
    starts = tf.cumsum(num_known, exclusive=True)
    # Where in its row each stands, counted from the first that is taken.
    columns = tf.range(tf.size(known.ids)) - tf.gather(
        starts + tf.maximum(num_known - max_length, 0), known.rows
    )
    taken = tf.where(columns >= 0)[:, 0]
    width = tf.clip_by_value(tf.reduce_max(num_known), 1, max_length)
    places = tf.stack([tf.gather(known.rows, taken), tf.gather(columns, taken)], axis=1)
    return (
        tf.scatter_nd(places, tf.gather(known.ids, taken), [flat.num_rows, width]),
        num_known,
    )
