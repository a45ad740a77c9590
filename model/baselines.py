"""Two recommenders that need no training, to be beaten by any that does."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from adaptiverec.model.instances import Instances
from adaptiverec.model.prepared_data import Sequences

__all__ = ["LastItemFollowers", "Popularity", "Recommender"]


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
        sequences: The users' sequences; only their training parts are looked at.
        num_items: Size of the catalogue.
    """

    def __init__(self, sequences: Sequences, num_items: int) -> None:
        counts = np.bincount(_training_items(sequences), minlength=num_items + 1)
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
        sequences: The users' sequences; only their training parts are looked at.
        num_items: Size of the catalogue.
    """

    def __init__(self, sequences: Sequences, num_items: int) -> None:
        instances = Instances.of(sequences, "train")
        before = sequences.items[instances.targets - 1].astype(np.int64)
        after = sequences.items[instances.targets]
        pairs, counts = np.unique(before * (num_items + 1) + after, return_counts=True)
        # The followers of item i are those at starts[i] … starts[i + 1].
        self._starts = np.searchsorted(
            pairs, np.arange(num_items + 2) * (num_items + 1)
        )
        self._followers = pairs % (num_items + 1)
        self._counts = counts.astype(np.float32)
        popularity = Popularity(sequences, num_items).scores(np.zeros(1))[0]
        # Below one observed transition, whatever the popularity.
        self._fallback = popularity / (1.0 + popularity[1:].max())

    def scores(self, last_items: np.ndarray) -> np.ndarray:
        """See :class:`Recommender`."""
        scores = np.tile(self._fallback, (len(last_items), 1))
        starts, ends = self._starts[last_items], self._starts[last_items + 1]
        lengths = ends - starts
        rows = np.repeat(np.arange(len(last_items)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(
            np.cumsum(lengths) - lengths, lengths
        )
        positions = starts[rows] + within
        scores[rows, self._followers[positions]] += self._counts[positions]
        return scores


def _training_items(sequences: Sequences) -> np.ndarray:
    lengths = np.diff(sequences.starts)
    ends = np.repeat(sequences.train_ends, lengths)
    return sequences.items[np.arange(len(sequences.items)) < ends]
