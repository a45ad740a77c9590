"""What is left of a partition when users and items are dropped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline.sequences import Sequences

__all__ = ["KeptSequences", "keep"]


@dataclasses.dataclass(frozen=True)
class KeptSequences:
    """Sequences with dense item ids.

    Attributes:
        user_ids: String array [num_users], ascending by the hash of the id, then its
            bytes.
        offsets: int64 [num_users + 1]; each user has an interaction at least.
        items: int32 [n], dense ids from 1.
        times: int64 [n].
        columns: What else is kept beside each interaction, as in
            :class:`adaptiverec.pipeline.sequences.Sequences`.
    """

    user_ids: pa.Array
    offsets: np.ndarray
    items: np.ndarray
    times: np.ndarray
    columns: dict[str, pa.Array] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.user_ids)

    def part(self, first: int, last: int) -> KeptSequences:
        """The users ``first`` to ``last - 1``, without copying."""
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        return KeptSequences(
            self.user_ids.slice(first, last - first),
            self.offsets[first : last + 1] - begin,
            self.items[begin:end],
            self.times[begin:end],
            {
                name: values.slice(begin, end - begin)
                for name, values in self.columns.items()
            },
        )


def keep(
    sequences: Sequences, user_stays: np.ndarray, dense_ids: np.ndarray
) -> KeptSequences:
    """Drops the users and items that do not stay.

    Args:
        sequences: The sequences of U users with I items.
        user_stays: bool of shape [U].
        dense_ids: The dense id of each of ``sequences.item_ids``, 0 where the item does
            not stay; int32 of shape [I].
    """
    items = dense_ids[sequences.items]
    lengths = np.diff(sequences.offsets)
    kept = np.repeat(user_stays, lengths) & (items > 0)
    passed = np.concatenate(([0], np.cumsum(kept)))[sequences.offsets]
    new_lengths = np.diff(passed)[user_stays]
    mask = pa.array(kept) if sequences.columns else None
    return KeptSequences(
        sequences.user_ids.filter(pa.array(user_stays)),
        np.concatenate(([0], np.cumsum(new_lengths))),
        items[kept],
        sequences.times[kept],
        {name: values.filter(mask) for name, values in sequences.columns.items()},
    )
