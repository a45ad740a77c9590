"""The largest part of the log where every user and every item has enough interactions.

Dropping a rare item can make a user rare, whose leaving can make another item rare, and
so on; what is left in the end (the k-core of the graph of users and items) does not
depend on the order of the dropping. Passes over the whole log until nothing changes can
take thousands of passes. Here only what was just dropped is looked at: each interaction
is visited at most once from its user's side and once from its item's, so the cost is
linear in the number of interactions however long such a chain is.

Only counts are in memory, one for each user and each item. The interactions are on the
worker's disk: item by item for each user, as they come, and, once an item gets dropped,
also user by user for each item.

An item that a user has several times counts each time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from adaptiverec.pipeline.edge_file import EdgeFile

__all__ = ["InteractionGraph"]

# How many interactions are sorted in memory at a time.
_SORTED_AT_ONCE = 1 << 22


class InteractionGraph:
    """The graph of users and items, an edge for each interaction. Closes on exit.

    Args:
        item_degrees: Interactions of each item; integers of shape [num_items].
        directory: Where to put the edges; None for the system's temporary directory.
    """

    def __init__(self, item_degrees: np.ndarray, directory: str | None = None) -> None:
        self._directory = directory
        self._item_degrees = item_degrees
        self._user_degrees: list[np.ndarray] = []
        self._closing = ExitStack()
        self._by_user = self._closing.enter_context(EdgeFile(directory))

    def __enter__(self) -> InteractionGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def add(self, degrees: np.ndarray, items: np.ndarray) -> None:
        """Adds users.

        Args:
            degrees: Interactions of each; integers of shape [num_added_users].
            items: The item of each interaction, user after user; int32 of shape
                [num_added_interactions], values from 0 to ``num_items - 1``.
        """
        self._user_degrees.append(degrees)
        self._by_user.append(items)

    def core(
        self, min_user_interactions: int, min_item_interactions: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Peels users and items until all that are left have enough interactions.

        Args:
            min_user_interactions: What a user must keep to stay.
            min_item_interactions: What an item must keep to stay.

        Returns:
            ``(user_stays, item_counts)``: bool of shape [num_users], in the order in
            which users were added, and int64 of shape [num_items], the kept
            interactions of each item, 0 where it is dropped.

        Raises:
            RuntimeError: The interactions added are not as many as the items have.
        """
        user_degrees = np.concatenate([np.zeros(0, np.int32), *self._user_degrees])
        users = _Side(user_degrees, min_user_interactions, self._by_user)
        items = _Side(self._item_degrees, min_item_interactions)
        if not int(users.degrees.sum()) == int(items.degrees.sum()) == len(users.edges):
            raise RuntimeError(
                "The interactions of all users must be those of all items. Received: "
                f"{len(users.edges)} of users, {int(items.degrees.sum())} of items"
            )
        short = items.lose(users.edges_of(users.drop_below_minimum()))
        dropped_items = np.union1d(short, items.drop_below_minimum())
        if len(dropped_items):
            items.place(self._sorted_by_item(users, items))
        while len(dropped_items):
            dropped_users = users.lose(items.edges_of(dropped_items))
            dropped_items = items.lose(users.edges_of(dropped_users))
        return users.stays, np.where(items.stays, items.degrees, 0)

    def _sorted_by_item(self, users: _Side, items: _Side) -> EdgeFile:
        """The staying user of each interaction that is left, item after item.

        Sorted in two passes: into buckets of items, on disk, and then bucket by bucket.
        """
        first_items = _buckets(items.degrees)
        num_items = np.diff(np.append(first_items, len(items.degrees)))
        bucket_of = np.repeat(np.arange(len(num_items), dtype=np.uint16), num_items)
        lengths = np.add.reduceat(items.degrees, first_items)
        by_item = self._closing.enter_context(EdgeFile(self._directory))
        with tempfile.TemporaryFile(dir=self._directory) as file:
            free = (np.cumsum(lengths) - lengths) * 8
            for pairs in _pairs(users):
                buckets = bucket_of[pairs[:, 0]]
                # 16-bit integers are sorted by radix.
                pairs = pairs[np.argsort(buckets, kind="stable")]
                counts = np.bincount(buckets, minlength=len(lengths))
                ends = np.cumsum(counts)
                for bucket in np.flatnonzero(counts).tolist():
                    end = int(ends[bucket])
                    part = pairs[end - int(counts[bucket]) : end]
                    file.seek(int(free[bucket]))
                    file.write(part.data)
                    free[bucket] += part.nbytes
            file.seek(0)
            for first_item, size, length in zip(
                first_items, num_items, lengths, strict=True
            ):
                # Those of one item need no order, and may be many.
                at_once = int(length) if size > 1 else _SORTED_AT_ONCE
                for start in range(0, int(length), at_once or 1):
                    num_bytes = min(at_once, int(length) - start) * 8
                    pairs = np.frombuffer(file.read(num_bytes), np.int32).reshape(-1, 2)
                    keys = (pairs[:, 0] - first_item).astype(np.uint16)
                    by_item.append(pairs[np.argsort(keys, kind="stable"), 1])
        return by_item


def _buckets(degrees: np.ndarray) -> np.ndarray:
    """The first item of each bucket; none has many items or, unless one, interactions."""
    ends = np.concatenate(([0], np.cumsum(degrees)))
    marks = np.arange(0, int(ends[-1]), _SORTED_AT_ONCE)
    bounds = np.arange(0, len(degrees), 1 << 16)
    # Before and behind the item that a mark is in.
    bounds = np.union1d(bounds, np.searchsorted(ends, marks, "right") - 1)
    bounds = np.union1d(bounds, np.searchsorted(ends, marks, "left"))
    return bounds[bounds < len(degrees)]


class _Side:
    """The users, or the items: who stays, and how many interactions each has left."""

    def __init__(
        self, degrees: np.ndarray, minimum: int, edges: EdgeFile | None = None
    ) -> None:
        self.degrees = degrees.astype(np.int64)
        self.stays = np.ones(len(degrees), bool)
        self._minimum = minimum
        if edges is not None:
            self.place(edges)

    def place(self, edges: EdgeFile) -> None:
        """Says where the other ends of the interactions are, node after node."""
        self.edges = edges
        self.offsets = np.concatenate(([0], np.cumsum(self.degrees)))

    def drop_below_minimum(self) -> np.ndarray:
        """Drops all that have too few; returns them, ascending."""
        return self._drop(np.flatnonzero(self.stays & (self.degrees < self._minimum)))

    def lose(self, parts: Iterator[np.ndarray]) -> np.ndarray:
        """Takes one interaction from each node, once for each time it is there.

        Args:
            parts: Positions on this side, a part at a time.

        Returns:
            Those that have too few now and are dropped, ascending.
        """
        lost, short = 0, [np.zeros(0, np.int32)]
        for nodes in parts:
            np.subtract.at(self.degrees, nodes, 1)
            lost += len(nodes)
            # Few among many: the cost must follow the few.
            if lost * 8 <= len(self.degrees):
                short.append(nodes[self.stays[nodes] & self._below(nodes)])
        if lost * 8 > len(self.degrees):
            return self.drop_below_minimum()
        return self._drop(_distinct(np.concatenate(short)))

    def _below(self, nodes: np.ndarray) -> np.ndarray:
        return self.degrees[nodes] < self._minimum

    def edges_of(self, nodes: np.ndarray) -> Iterator[np.ndarray]:
        """The other ends of all interactions of ``nodes``, ascending positions."""
        starts = self.offsets[nodes]
        return self.edges.gather(starts, self.offsets[nodes + 1] - starts)

    def _drop(self, nodes: np.ndarray) -> np.ndarray:
        self.stays[nodes] = False
        return nodes


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending. NumPy's own is many times slower for integers."""
    ordered = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(values)]]


def _pairs(users: _Side) -> Iterator[np.ndarray]:
    """Item and staying user of each interaction, int32 of shape [m, 2] at a time."""
    begin = 0
    for items in users.edges.chunks():
        end = begin + len(items)
        first = int(np.searchsorted(users.offsets, begin, "right")) - 1
        last = int(np.searchsorted(users.offsets, end, "left"))
        cuts = np.clip(users.offsets[first : last + 1], begin, end)
        numbers = np.repeat(np.arange(first, last, dtype=np.int32), np.diff(cuts))
        stays = np.repeat(users.stays[first:last], np.diff(cuts))
        yield np.stack([items[stays], numbers[stays]], axis=1)
        begin = end
