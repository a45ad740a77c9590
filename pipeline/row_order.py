"""Sorting rows by a number of levels, each of which only sees what tied before.

Nearly all rows are told apart by user and time. What comes after, such as a hash of
each row's ids, is worked out for the few that tie alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Level", "order_rows", "ranks_by_bytes"]

# From row numbers, int64 [m], to what to sort these rows by: numbers of shape [m].
Level: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Units that times often are whole numbers of, in microseconds.
_UNITS = (86_400_000_000, 1_000_000, 1_000)


def order_rows(
    users: np.ndarray, times: np.ndarray, levels: Iterable[Level]
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts rows by user, then time, then each level.

    Args:
        users: Integers from 0, int32 of shape [n].
        times: int64 of shape [n].
        levels: What to sort by where all before is equal.

    Returns:
        ``(order, same)``: a permutation, and bool of shape [n], in the new order:
        whether a row equals the one before it in user, time and every level.
    """
    order, same = _by_user_and_time(users, times)
    for level in levels:
        _refine(order, same, level)
    return order, same


def _by_user_and_time(
    users: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    same = np.zeros(len(users), bool)
    if not len(users):
        return np.zeros(0, np.int64), same
    # One integer as key sorts several times faster than two: user bits above time bits,
    # the time in the coarsest unit that loses nothing.
    first, last = int(times.min()), int(times.max())
    since = times.astype(np.uint64) - np.uint64(first % 2**64)
    unit = _coarsest_unit(since)
    if unit > 1:
        since //= np.uint64(unit)
    time_bits = ((last - first) // unit).bit_length()
    key_bits = int(users.max()).bit_length() + time_bits
    if key_bits <= 64:
        key = since
        # Shifting by 64 is undefined; then there is one user only.
        if time_bits < 64:
            key |= users.astype(np.uint64) << np.uint64(time_bits)
        order, key = _sort(key, key_bits)
        same[1:] = key[1:] == key[:-1]
        return order, same
    order = np.lexsort((times, users))
    users, times = users[order], times[order]
    same[1:] = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return order, same


def _coarsest_unit(since: np.ndarray) -> int:
    """The largest unit that all times are whole numbers of, in microseconds."""
    for unit in _UNITS:
        # Most units are ruled out by the first few.
        if not (since[:64] % np.uint64(unit)).any() and not (
            (since % np.uint64(unit)).any()
        ):
            return unit
    return 1


def _sort(key: np.ndarray, key_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of keys, uint64 [n] of so many bits, and the sorted keys."""
    row_bits = len(key).bit_length()
    if key_bits + row_bits > 64:
        order = np.argsort(key)
        return order, key[order]
    # Sorting numbers is many times faster than finding their order; so each takes its
    # row along in the bits that are left.
    key = (key << np.uint64(row_bits)) | np.arange(len(key), dtype=np.uint64)
    key.sort()
    order = (key & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    return order, key >> np.uint64(row_bits)


def _refine(order: np.ndarray, same: np.ndarray, level: Level) -> None:
    """Sorts each run of equal rows by one more level; both arrays in place."""
    in_run = same.copy()
    in_run[:-1] |= same[1:]
    places = np.flatnonzero(in_run)
    if not len(places):
        return
    rows = order[places]
    values = level(rows)
    by_value = np.lexsort((values, np.cumsum(~same[places])))
    order[places] = rows[by_value]
    values = values[by_value]
    # The first of a run stays the first of a run.
    same[places[1:]] &= values[1:] == values[:-1]


def ranks_by_bytes(strings: pa.Array) -> np.ndarray:
    """Each string's rank by its UTF-8 bytes among the distinct ones, int32 [n]."""
    encoded = strings.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[encoded.indices.to_numpy()]
