"""All interactions of one partition's users, deduplicated and in order.

The order within a user is by time; at equal times by a hash of user id and item id; and
should two hashes be equal, by the bytes of the item id. It is a total order of the
content alone, so it does not depend on how the rows came. Ordering ties by item id
would do as much, but would put an order into the sequences that a model can learn and
that is not there.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline import hashing

__all__ = ["Sequences", "form_sequences"]


@dataclasses.dataclass(frozen=True)
class Sequences:
    """The sequences of U users: n interactions with I distinct items.

    Attributes:
        user_ids: String array [U], ascending by UTF-8 bytes.
        offsets: int64 [U + 1]: user u has interactions ``offsets[u]:offsets[u + 1]``.
        item_ids: String array [I], distinct, in no particular order.
        items: int32 [n], positions in ``item_ids``.
        times: int64 [n], microseconds since 1970-01-01 UTC.
    """

    user_ids: pa.Array
    offsets: np.ndarray
    item_ids: pa.Array
    items: np.ndarray
    times: np.ndarray

    def to_batch(self) -> pa.RecordBatch:
        """One row whose columns are lists: arrays of unequal length in one batch."""
        return pa.record_batch(
            {
                field.name: _one_list(pa.array(getattr(self, field.name)))
                for field in dataclasses.fields(self)
            }
        )

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Sequences:
        """The inverse of :meth:`to_batch`."""
        lists = {name: batch.column(name).values for name in batch.schema.names}
        numbers = ("offsets", "items", "times")
        return cls(**{**lists, **{name: lists[name].to_numpy() for name in numbers}})


def _one_list(values: pa.Array) -> pa.Array:
    offsets = pa.array([0, len(values)], pa.int64())
    return pa.LargeListArray.from_arrays(offsets, values)


def form_sequences(batches: list[pa.RecordBatch]) -> tuple[Sequences, int]:
    """Groups the interactions of a partition by user.

    Args:
        batches: Interactions in any order: all that any user of the partition has.

    Returns:
        The sequences, and the number of exact duplicates (same user, item and time)
        that were dropped.
    """
    table = pa.Table.from_batches(batches)
    user_ids, users = _encode(table.column("user"))
    by_bytes, rank = _sorted_with_ranks(user_ids)
    users = rank[users]
    item_ids, items = _encode(table.column("item"))
    times = table.column("time").to_numpy()
    del table

    order, tied = _order_by_user_and_time(users, times)
    users, items, times = users[order], items[order], times[order]
    if tied.any():
        user_hashes = hashing.hash_strings(by_bytes)
        _order_ties(users, items, times, tied, user_hashes, item_ids)
    duplicate = np.zeros(len(users), bool)
    duplicate[1:] = tied[1:] & (items[1:] == items[:-1])
    # Tied to its predecessor means the same user and time.
    duplicates = int(duplicate.sum())
    if duplicates:
        users, items, times = (values[~duplicate] for values in (users, items, times))
    counts = np.bincount(users, minlength=len(by_bytes))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Sequences(by_bytes, offsets, item_ids, items, times), duplicates


def _encode(strings: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The distinct strings, and for each row its position among them, int32 [n]."""
    # Arrow gives all chunks the same dictionary, that of the last.
    encoded = strings.dictionary_encode()
    codes = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    if not codes:
        return pa.array([], pa.string()), np.zeros(0, np.int32)
    return encoded.chunks[-1].dictionary, np.concatenate(codes)


def _sorted_with_ranks(strings: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The strings by their bytes, and the rank of each, int32 of shape [n]."""
    order = pc.array_sort_indices(strings)
    rank = np.empty(len(strings), np.int32)
    rank[order.to_numpy()] = np.arange(len(strings), dtype=np.int32)
    return strings.take(order), rank


def _order_by_user_and_time(
    users: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts by user, then time.

    Args:
        users: int32 of shape [n].
        times: int64 of shape [n].

    Returns:
        ``(order, tied)``: a permutation, and bool of shape [n], in the new order:
        whether an interaction is of the same user and time as the one before it.
    """
    tied = np.zeros(len(users), bool)
    if not len(users):
        return np.zeros(0, np.int64), tied
    # One integer as key sorts several times faster than two: user bits above time bits,
    # the time in the coarsest unit that loses nothing.
    first, last = int(times.min()), int(times.max())
    since = times.astype(np.uint64) - np.uint64(first % 2**64)
    span = last - first
    for unit in (86_400_000_000, 1_000_000, 1_000):
        if not (since % np.uint64(unit)).any():
            since //= np.uint64(unit)
            span //= unit
            break
    time_bits = span.bit_length()
    if int(users.max()).bit_length() + time_bits <= 64:
        key = since
        # Shifting by 64 is undefined; then there is one user only.
        if time_bits < 64:
            key |= users.astype(np.uint64) << np.uint64(time_bits)
        order = np.argsort(key)
        key = key[order]
        tied[1:] = key[1:] == key[:-1]
        return order, tied
    order = np.lexsort((times, users))
    users, times = users[order], times[order]
    tied[1:] = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return order, tied


def _order_ties(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    tied: np.ndarray,
    user_hashes: np.ndarray,
    item_ids: pa.Array,
) -> None:
    """Orders the items within each run of equal user and time, in place."""
    in_run = tied.copy()
    in_run[:-1] |= tied[1:]
    rows = np.flatnonzero(in_run)
    run = np.cumsum(~tied[rows])
    item_hashes = hashing.hash_strings(item_ids)
    tie = hashing.combine_hashes(user_hashes[users[rows]], item_hashes[items[rows]])
    tied_items = items[rows]
    order = np.lexsort((tied_items, tie, run))
    same_hash = (run[order][1:] == run[order][:-1]) & (
        tie[order][1:] == tie[order][:-1]
    )
    if (same_hash & (tied_items[order][1:] != tied_items[order][:-1])).any():
        _, rank = _sorted_with_ranks(item_ids)
        order = np.lexsort((rank[tied_items], tie, run))
    # Users and times are equal within a run, so only the items move.
    items[rows] = tied_items[order]
