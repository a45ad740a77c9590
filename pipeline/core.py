"""What stays of the log: the users and items of its core, and how they are numbered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Core"]


class Core(NamedTuple):
    """What stays.

    Attributes:
        user_stays: For each partition, bool of shape [users of the partition] packed
            to bits.
        dense_ids: int32 [num_counted], the dense id of each counted item, 0 where the
            item does not stay.
        num_items: Size of the vocabulary.
        num_shards: How many files the sequences go to.
    """

    user_stays: dict[int, np.ndarray]
    dense_ids: np.ndarray
    num_items: int
    num_shards: int

    def users_of(self, partition: int, num_users: int) -> np.ndarray:
        """Which users of a partition stay, bool of shape [num_users]."""
        return np.unpackbits(self.user_stays[partition], count=num_users).astype(bool)
