"""Rules on what of a user's sequence counts: repeats of an item, and the newest only."""

from __future__ import annotations

import numpy as np

__all__ = ["newest", "without_repeats"]


def without_repeats(users: np.ndarray, items: np.ndarray, rule: str) -> np.ndarray:
    """Which interactions stay where an item that a user has several times counts once.

    Args:
        users: int32 of shape [n], ascending.
        items: int32 of shape [n], each user's in their order.
        rule: ``keep`` all, ``collapse`` those that follow each other to the first of
            them, or keep the ``first`` or the ``last`` of all that a user has.

    Returns:
        bool of shape [n].
    """
    if rule == "keep":
        return np.ones(len(items), bool)
    if rule == "collapse":
        stays = np.ones(len(items), bool)
        stays[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
        return stays
    stays = np.zeros(len(items), bool)
    step = -1 if rule == "last" else 1
    pairs = (users.astype(np.int64) << 32) | items
    # np.unique gives where each pair is first seen.
    stays[::step][np.unique(pairs[::step], return_index=True)[1]] = True
    return stays


def newest(counts: np.ndarray, maximum: int) -> np.ndarray:
    """Which interactions stay where each user keeps at most the newest ``maximum``.

    Args:
        counts: Interactions of each user, int64 of shape [num_users].
        maximum: How many a user keeps.

    Returns:
        bool of shape [n], user after user, oldest first.
    """
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum())) >= np.repeat(ends - maximum, counts)
