"""Shuffling a stream of training instances, and their same-target partners, in NumPy.

Everything is done for thousands of instances at once: nothing here loops over rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Drawn", "LastPrefixes", "Prefixes", "ShuffleBuffer"]


class Prefixes(NamedTuple):
    """Training instances: the end of a history, and the item after it in the same row.

    Attributes:
        rows: Dense item ids, int32 `[n, max_length + 1]`: a history, its target, and 0s.
        lengths: Items of the history, 1 … `max_length`, int32 `[n]`.
    """

    rows: np.ndarray
    lengths: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """The items after the histories, int32 `[n]`."""
        return self.rows[np.arange(len(self.rows)), self.lengths]

    @property
    def histories(self) -> np.ndarray:
        """The histories, int32 `[n, max_length]`, padded at the end with 0."""
        histories = self.rows[:, :-1].copy()
        place = np.arange(len(histories))
        short = self.lengths < histories.shape[1]
        histories[place[short], self.lengths[short]] = 0
        return histories

    @property
    def following(self) -> np.ndarray:
        """The item after each of a history's, int32 `[n, max_length]`, padded likewise."""
        return self.rows[:, 1:].copy()

    def take(self, places: np.ndarray | slice) -> Prefixes:
        """Some of them; copies, unless they are a slice."""
        return Prefixes(self.rows[places], self.lengths[places])


class Drawn(NamedTuple):
    """A batch that leaves the buffer.

    Attributes:
        instances: Drawn from the buffer.
        partners: For each, another instance of the buffer with the same target; itself
            where there is none.
        alone: Where that is so, bool `[n]`.
    """

    instances: Prefixes
    partners: Prefixes
    alone: np.ndarray


class ShuffleBuffer:
    """Holds instances, and gives them away in random order.

    Args:
        capacity: How many instances it holds; `4 * (max_length + 2)` bytes each.
        max_length: The longest history.
        generator: Of the random order and draws.
    """

    def __init__(
        self, capacity: int, max_length: int, generator: np.random.Generator
    ) -> None:
        # Zeros are memory only once they are written to.
        self._held = Prefixes(
            np.zeros((capacity, max_length + 1), np.int32), np.zeros(capacity, np.int32)
        )
        self._size = 0
        self._generator = generator

    def __len__(self) -> int:
        return self._size

    @property
    def room(self) -> int:
        """How many more it can hold."""
        return len(self._held.lengths) - self._size

    def add(self, instances: Prefixes) -> None:
        """Takes in instances, at most as many as there is room for."""
        end = self._size + len(instances.lengths)
        self._held.rows[self._size : end] = instances.rows
        self._held.lengths[self._size : end] = instances.lengths
        self._size = end

    def draw(self, count: int, batch_size: int, *, partners: bool) -> Iterator[Drawn]:
        """Gives away instances, each of those held as likely, batch by batch.

        All of them, and every instance that stays, may be the partner of any.

        Args:
            count: How many.
            batch_size: How many at a time; the last batch may have fewer.
            partners: Whether partners are wanted; else all are alone.

        Yields:
            The batches. The instances are gone from the buffer when all have been taken.
        """
        order = self._generator.permutation(self._size)[:count]
        others = order
        if partners:
            held = self._held.take(slice(self._size))
            others = _draw_others(held.targets, order, self._generator)
        for start in range(0, count, batch_size):
            chosen = order[start : start + batch_size]
            partner = others[start : start + batch_size]
            yield Drawn(
                self._held.take(chosen), self._held.take(partner), partner == chosen
            )
        self._remove(order)

    def _remove(self, places: np.ndarray) -> None:
        """Frees some places; the last instances move there."""
        left = self._size - len(places)
        stays = np.ones(self._size, bool)
        stays[places] = False
        holes = np.flatnonzero(~stays[:left])
        moved = left + np.flatnonzero(stays[left:])
        self._held.rows[holes] = self._held.rows[moved]
        self._held.lengths[holes] = self._held.lengths[moved]
        self._size = left


class LastPrefixes:
    """The last prefix before each item that was remembered.

    Args:
        num_items: Size of the catalogue; `4 * (max_length + 2)` bytes for each item that
            is remembered.
        max_length: The longest history.
    """

    def __init__(self, num_items: int, max_length: int) -> None:
        self._last = Prefixes(
            np.zeros((num_items + 1, max_length + 1), np.int32),
            np.zeros(num_items + 1, np.int32),
        )

    def remember(self, prefixes: Prefixes) -> None:
        """Keeps the last of them for each target."""
        targets = prefixes.targets
        # Of equal places NumPy keeps the last value.
        self._last.rows[targets] = prefixes.rows
        self._last.lengths[targets] = prefixes.lengths

    def partners(self, drawn: Drawn) -> Prefixes:
        """The partners of a batch; where an instance is alone, what is remembered."""
        targets = drawn.instances.targets
        known = drawn.alone & (self._last.lengths[targets] > 0)
        rows, lengths = drawn.partners
        rows[known] = self._last.rows[targets[known]]
        lengths[known] = self._last.lengths[targets[known]]
        return drawn.partners


def _draw_others(
    targets: np.ndarray, places: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """For some places, another one with an equal target, each as likely, or itself."""
    by_target = np.argsort(targets, kind="stable")
    counts = np.bincount(targets)
    starts = np.cumsum(counts) - counts
    rank = np.empty_like(by_target)
    rank[by_target] = np.arange(len(targets)) - starts[targets[by_target]]
    wanted = targets[places]
    # A step of 1 … count - 1 around the run of the target.
    steps = generator.random(len(places)) * (counts[wanted] - 1)
    moved = (rank[places] + 1 + steps.astype(np.int64)) % counts[wanted]
    return by_target[starts[wanted] + moved]
