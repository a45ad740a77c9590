"""Two recommenders that need no training, to be beaten by any that does."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from adaptiverec.model.instances import Instances
from adaptiverec.model.sequences import Sequences, SequenceSource, places_within

__all__ = ["LastItemFollowers", "Popularity", "Recommender"]

_PAIRS_AT_ONCE = 1 << 20


class Recommender(Protocol):
    """What can be ranked: a score for every item of the catalogue."""

    def scores(self, last_items: np.ndarray) -> np.ndarray:
        """Scores the catalogue.

        Args:
            last_items: The last item of each history, int `[batch]`.

        Returns:
            Float32 `[batch, num_items + 1]`, column 0 being minus infinity.
        """


class Popularity:
    """Recommends what is most frequent in the training part, to everybody.

    Args:
        source: The users' sequences; only their training parts are looked at.
        num_items: Size of the catalogue.

    Attributes:
        counts: Interactions of each item in the training part, int64 `[num_items]`;
            element i has the dense id i + 1.
    """

    def __init__(self, source: SequenceSource, num_items: int) -> None:
        counts = np.zeros(num_items + 1, np.int64)
        for block in source.blocks():
            counts += np.bincount(_training_items(block), minlength=num_items + 1)
        self.counts = counts[1:]
        self._scores = counts.astype(np.float32)
        self._scores[0] = -np.inf

    def scores(self, last_items: np.ndarray) -> np.ndarray:
        """See :class:`Recommender`."""
        return np.broadcast_to(self._scores, (len(last_items), len(self._scores)))


class LastItemFollowers:
    """Recommends what most often followed the history's last item in training.

    A first-order Markov chain. Items that never followed it come after all that did, by
    popularity.

    Args:
        source: The users' sequences; only their training parts are looked at. What is
            kept of them is about 12 bytes for each pair of items of which one was seen
            after the other, and twice that while they are counted.
        num_items: Size of the catalogue.
    """

    def __init__(self, source: SequenceSource, num_items: int) -> None:
        pairs, counts = _count_pairs(source, num_items)
        # The followers of item i are those at starts[i] … starts[i + 1].
        self._starts = np.searchsorted(
            pairs, np.arange(num_items + 2) * (num_items + 1)
        )
        self._followers = pairs % (num_items + 1)
        self._counts = counts.astype(np.float32)
        popularity = Popularity(source, num_items).scores(np.zeros(1))[0]
        # Below one observed transition, whatever the popularity.
        self._fallback = popularity / (1.0 + popularity[1:].max())

    def scores(self, last_items: np.ndarray) -> np.ndarray:
        """See :class:`Recommender`."""
        scores = np.tile(self._fallback, (len(last_items), 1))
        starts, ends = self._starts[last_items], self._starts[last_items + 1]
        lengths = ends - starts
        rows = np.repeat(np.arange(len(last_items)), lengths)
        positions = starts[rows] + places_within(lengths)
        scores[rows, self._followers[positions]] += self._counts[positions]
        return scores


def _count_pairs(
    source: SequenceSource, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which item follows which and how often, as ascending `before * (n + 1) + after`."""
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    num_waiting = 0
    for block in source.blocks():
        instances = Instances.of(block, "train")
        before = block.items[instances.targets - 1].astype(np.int64)
        after = block.items[instances.targets]
        waiting.append(np.unique(before * (num_items + 1) + after, return_counts=True))
        num_waiting += len(waiting[-1][0])
        # Seldom enough that all is not sorted again for each block.
        if num_waiting > max(len(pairs), _PAIRS_AT_ONCE):
            pairs, counts = _summed([(pairs, counts), *waiting])
            waiting, num_waiting = [], 0
    return _summed([(pairs, counts), *waiting])


def _summed(
    parts: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    keys = np.concatenate([keys for keys, _ in parts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    counts = np.concatenate([counts for _, counts in parts])[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return keys[first], np.add.reduceat(counts, first) if len(first) else counts


def _training_items(sequences: Sequences) -> np.ndarray:
    lengths = np.diff(sequences.starts)
    ends = np.repeat(sequences.train_ends, lengths)
    return sequences.items[np.arange(len(sequences.items)) < ends]
