"""The largest part of the log where every user and every item has enough interactions.

Dropping a rare item can make a user rare, whose leaving can make another item rare, and
so on; what is left in the end (the k-core of the graph of users and items) does not
depend on the order of the dropping. Passes over the whole log until nothing changes can
take thousands of passes. Here only what was just dropped is looked at: each interaction
is visited at most once from its user's side and once from its item's, so the cost is
linear in the number of interactions however long such a chain is.

An item that a user has several times counts each time.
"""

from __future__ import annotations

import numpy as np

__all__ = ["k_core"]


def k_core(
    user_degrees: np.ndarray,
    items: np.ndarray,
    num_items: int,
    min_user_interactions: int,
    min_item_interactions: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Peels users and items until all that are left have enough interactions.

    Args:
        user_degrees: Interactions of each user; integers of shape [num_users].
        items: The item of each interaction, user after user; int32 of shape
            [num_interactions], values from 0 to ``num_items - 1``.
        num_items: Number of items.
        min_user_interactions: What a user must keep to stay.
        min_item_interactions: What an item must keep to stay.

    Returns:
        ``(user_stays, item_counts)``: bool of shape [num_users], and int64 of shape
        [num_items], the kept interactions of each item, 0 where it is dropped.
    """
    users = _Side(user_degrees, min_user_interactions)
    by_item: np.ndarray | None = None
    items_side = _Side(np.bincount(items, minlength=num_items), min_item_interactions)
    dropped_users = users.drop_below_minimum()
    dropped_items = items_side.drop_below_minimum()
    while len(dropped_users) or len(dropped_items):
        neighbours = users.edges_of(dropped_users, items)
        if len(dropped_items) and by_item is None:
            by_item = _users_by_item(user_degrees, items)
        # An interaction whose user and item go at the same time is counted off both;
        # neither is looked at again, so that does no harm.
        dropped_of_both = (
            items_side.edges_of(dropped_items, by_item)
            if by_item is not None
            else np.zeros(0, np.int32)
        )
        dropped_items = items_side.lose(neighbours)
        dropped_users = users.lose(dropped_of_both)
    return users.stays, np.where(items_side.stays, items_side.degrees, 0)


class _Side:
    """The users, or the items: who stays, and how many interactions each has left."""

    def __init__(self, degrees: np.ndarray, minimum: int) -> None:
        self.degrees = degrees.astype(np.int64)
        self.stays = np.ones(len(degrees), bool)
        self._minimum = minimum
        self._offsets = np.concatenate(([0], np.cumsum(self.degrees)))

    def drop_below_minimum(self) -> np.ndarray:
        """Drops all that have too few; returns them."""
        return self._drop(np.flatnonzero(self.stays & (self.degrees < self._minimum)))

    def lose(self, nodes: np.ndarray) -> np.ndarray:
        """Takes one interaction from each of ``nodes``, once for each time it is there.

        Returns:
            Those that have too few now and are dropped.
        """
        if len(nodes) * 8 > len(self.degrees):
            self.degrees -= np.bincount(nodes, minlength=len(self.degrees))
            return self.drop_below_minimum()
        # Few among many: the cost must follow the few.
        np.subtract.at(self.degrees, nodes, 1)
        short = nodes[self.stays[nodes] & (self.degrees[nodes] < self._minimum)]
        return self._drop(np.unique(short))

    def edges_of(self, nodes: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
        """The other ends of all interactions of ``nodes``.

        Args:
            nodes: Positions on this side.
            neighbours: The other end of each interaction, node after node.
        """
        starts = self._offsets[nodes]
        lengths = self._offsets[nodes + 1] - starts
        before = np.cumsum(lengths) - lengths
        return neighbours[
            np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
        ]

    def _drop(self, nodes: np.ndarray) -> np.ndarray:
        self.stays[nodes] = False
        return nodes


def _users_by_item(user_degrees: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The user of each interaction, item after item; int32 of shape [interactions]."""
    users = np.repeat(np.arange(len(user_degrees), dtype=np.uint64), user_degrees)
    # Sorting one integer of both is several times faster than an argsort.
    pairs = (items.astype(np.uint64) << np.uint64(32)) | users
    pairs.sort()
    return (pairs & np.uint64(0xFFFFFFFF)).astype(np.int32)
