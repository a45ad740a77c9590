"""Users' sequences in flat arrays, and what gives them block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

__all__ = ["SequenceSource", "Sequences", "places_within", "windows"]


class SequenceSource(Protocol):
    """What holds or reads users' sequences: all in one block, or some at a time."""

    def blocks(self) -> Iterator[Sequences]:
        """Gives all users, in their order, some at a time; every time from the start."""

    @property
    def num_train_instances(self) -> int:
        """How many training items have an item of the same user before them."""


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Users' sequences, one after the other in one flat array.

    They are held once, 4 bytes an interaction: prefixes, views and targets are positions
    in them.

    Attributes:
        items: Dense item ids, int32 `[num_interactions]`.
        starts: Where each user's sequence starts, int64 `[num_users + 1]`; the last
            element is `num_interactions`.
        train_ends: End of each user's training part, as a position in `items`, int64
            `[num_users]`.
        validation_ends: End of each user's validation targets, likewise; what follows
            are test targets.
    """

    items: np.ndarray
    starts: np.ndarray
    train_ends: np.ndarray
    validation_ends: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Sequences]) -> Sequences:
        """The users of several, one after the other."""
        before = np.cumsum([0, *(len(part.items) for part in parts)])
        moved = list(zip(parts, before[:-1], strict=True))

        def join(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
            return np.concatenate([np.empty(0, dtype), *arrays]).astype(
                dtype, copy=False
            )

        return cls(
            join([part.items for part in parts], np.int32),
            join(
                [part.starts[:-1] + by for part, by in moved] + [before[-1:]], np.int64
            ),
            join([part.train_ends + by for part, by in moved], np.int64),
            join([part.validation_ends + by for part, by in moved], np.int64),
        )

    @property
    def num_users(self) -> int:
        """The number of users."""
        return len(self.starts) - 1

    @property
    def num_train_instances(self) -> int:
        """How many training items have an item of the same user before them."""
        return int(np.maximum(self.train_ends - self.starts[:-1] - 1, 0).sum())

    def blocks(self) -> Iterator[Sequences]:
        """Gives all users at once; see :class:`SequenceSource`."""
        yield self

    def of_users(self, users: np.ndarray) -> Sequences:
        """The sequences of some users alone.

        Args:
            users: Their places, int `[users]`.

        Returns:
            The sequences, in the order of `users`.
        """
        starts, ends = self.starts[users], self.starts[users + 1]
        new_starts = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        moved = new_starts[:-1] - starts
        items = [self.items[start:end] for start, end in zip(starts, ends, strict=True)]
        return Sequences(
            np.concatenate(items) if items else np.empty(0, np.int32),
            new_starts,
            self.train_ends[users] + moved,
            self.validation_ends[users] + moved,
        )


def places_within(counts: np.ndarray) -> np.ndarray:
    """0, 1, … within each of the runs that follow one another in a flat array.

    Args:
        counts: Length of each run, int `[runs]`.

    Returns:
        Int `[sum of the counts]`.
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def windows(
    items: np.ndarray, starts: np.ndarray, ends: np.ndarray, width: int
) -> np.ndarray:
    """Parts of a flat array as rows of one width.

    Args:
        items: Int32 `[num_interactions]`.
        starts: Where each part starts, int64 `[rows]`.
        ends: Where it ends, at most `width` further, likewise.
        width: Columns.

    Returns:
        Int32 `[rows, width]`, padded at the end with 0.
    """
    if not len(starts):
        return np.zeros((0, width), np.int32)
    positions = starts[:, np.newaxis] + np.arange(width)
    rows = items.take(positions, mode="clip")
    rows *= positions < ends[:, np.newaxis]
    return rows
