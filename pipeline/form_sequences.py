"""A partition's rows to sequences: grouped by user, ordered, each counted once.

The order within a user is by time; then by the order column, if there is one; then by a
hash of user id and item id; should two hashes be equal, by the bytes of the item id;
and at last by whatever else is kept beside an interaction. It is a total order of the
content alone, so it does not depend on how the rows came. Ordering ties by item id
would do as much, but would put an order into the sequences that a model can learn and
that is not there.

Users are in the order of a hash of their ids, so that the output can be cut into any
number of files and stay the same.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline import hashing
from adaptiverec.pipeline.interactions import ITEM, ORDER, TIME, USER
from adaptiverec.pipeline.row_order import Level, order_rows, ranks_by_bytes
from adaptiverec.pipeline.sequence_rules import newest, without_repeats
from adaptiverec.pipeline.sequences import Sequences

__all__ = ["form_sequences"]


def form_sequences(
    batches: list[pa.RecordBatch],
    *,
    repeats: str = "keep",
    max_user_interactions: int | None = None,
) -> tuple[Sequences, dict[str, int]]:
    """Groups the interactions of a partition by user.

    Args:
        batches: Interactions in any order, of one schema of
            :func:`adaptiverec.pipeline.interactions.schema_of`: all that any user of
            the partition has.
        repeats: What becomes of an item that a user has several times: ``keep``,
            ``collapse``, ``first`` or ``last``.
        max_user_interactions: How many of the newest a user keeps; None for all.

    Returns:
        The sequences, and how many interactions were dropped: ``duplicates``, which
        agree with another in all columns, then ``repeats``, then
        ``over_max_user_interactions``.
    """
    table = pa.Table.from_batches(batches)
    user_ids, users = _encode(table.column(USER))
    user_ids, user_hashes, rank = _by_hash(user_ids)
    users = rank[users]
    item_ids, items = _encode(table.column(ITEM))
    times = table.column(TIME).to_numpy()
    columns = _columns(table)
    sorted_by, levels = times, [_ties(users, items, user_hashes, item_ids)]
    if ORDER in table.column_names:
        ranking = table.column(ORDER).to_numpy()
        if len(times) and times.min() == times.max():
            # The same as ordering all ties, but faster: there are no times.
            sorted_by = ranking
        else:
            levels.insert(0, lambda rows: ranking[rows])
    del table
    levels.append(_item_bytes(items, item_ids))
    levels += [_content(values) for values in columns.values()]

    order, same = order_rows(users, sorted_by, levels)
    tally = {"duplicates": int(np.count_nonzero(same))}
    if tally["duplicates"]:
        order = order[~same]
    users, items = users[order], items[order]
    if repeats != "keep":
        stays = without_repeats(users, items, repeats)
        tally["repeats"] = int(np.count_nonzero(~stays))
        order, users, items = order[stays], users[stays], items[stays]
    counts = np.bincount(users, minlength=len(user_ids))
    if max_user_interactions is not None:
        stays = newest(counts, max_user_interactions)
        tally["over_max_user_interactions"] = int(np.count_nonzero(~stays))
        order, items = order[stays], items[stays]
        counts = np.minimum(counts, max_user_interactions)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    taken = pa.array(order) if columns else None
    columns = {name: values.take(taken) for name, values in columns.items()}
    return Sequences(user_ids, offsets, item_ids, items, times[order], columns), tally


def _encode(strings: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The distinct strings, and for each row its position among them, int32 [n]."""
    # Arrow gives all chunks the same dictionary, that of the last.
    encoded = strings.dictionary_encode()
    codes = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    if not codes:
        return pa.array([], pa.string()), np.zeros(0, np.int32)
    return encoded.chunks[-1].dictionary, np.concatenate(codes)


def _by_hash(ids: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """The ids by hash, then bytes; their hashes; and the rank of each, int32 [n]."""
    hashes = hashing.hash_strings(ids)
    order = np.argsort(hashes, kind="stable")
    ascending = hashes[order]
    if (ascending[1:] == ascending[:-1]).any():
        # Equal hashes change places with each other alone.
        order = np.lexsort((ranks_by_bytes(ids), hashes))
    rank = np.empty(len(ids), np.int32)
    rank[order] = np.arange(len(ids), dtype=np.int32)
    return ids.take(pa.array(order)), ascending, rank


def _columns(table: pa.Table) -> dict[str, pa.Array]:
    """What is kept beside user, item and time."""
    columns = {}
    for name in table.column_names:
        if name in (USER, ITEM, TIME, ORDER):
            continue
        column = table.column(name)
        if pa.types.is_floating(column.type):
            # Minus zero is zero, also in bytes.
            columns[name] = pa.array(column.to_numpy() + 0.0)
        else:
            # Large: the offsets of a string array end at 2 GiB of text.
            columns[name] = column.cast(pa.large_string()).combine_chunks()
    return columns


def _ties(
    users: np.ndarray, items: np.ndarray, user_hashes: np.ndarray, item_ids: pa.Array
) -> Level:
    """The hash of user and item."""

    def level(rows: np.ndarray) -> np.ndarray:
        item_hashes = hashing.hash_strings(item_ids)
        return hashing.combine_hashes(
            user_hashes[users[rows]], item_hashes[items[rows]]
        )

    return level


def _item_bytes(items: np.ndarray, item_ids: pa.Array) -> Level:
    def level(rows: np.ndarray) -> np.ndarray:
        found = np.zeros(len(item_ids), bool)
        found[items[rows]] = True
        rank = np.zeros(len(item_ids), np.int32)
        rank[found] = ranks_by_bytes(item_ids.filter(pa.array(found)))
        return rank[items[rows]]

    return level


def _content(values: pa.Array) -> Level:
    """A column's own values: numbers as they are, texts by their bytes."""

    def level(rows: np.ndarray) -> np.ndarray:
        if pa.types.is_floating(values.type):
            return values.to_numpy()[rows]
        return ranks_by_bytes(values.take(pa.array(rows)))

    return level
