"""How many interactions each item has, combined from all partitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline.sequences import Sequences

__all__ = ["CountItems", "ItemCounts"]

# Merging costs as much as what is merged, so small pieces wait until they add up.
_MERGE_AT = 16


class ItemCounts(NamedTuple):
    """Items and their numbers of interactions.

    Attributes:
        item_ids: String array [num_items], distinct.
        counts: int64 of shape [num_items].
    """

    item_ids: pa.Array
    counts: np.ndarray

    @classmethod
    def of(cls, sequences: Sequences) -> ItemCounts:
        """Counts the items of one partition."""
        counts = np.bincount(sequences.items, minlength=len(sequences.item_ids))
        return cls(sequences.item_ids, counts)


def _merge(pieces: list[ItemCounts]) -> ItemCounts:
    if len(pieces) == 1:
        return pieces[0]
    ids = pa.chunked_array([piece.item_ids for piece in pieces], pa.string())
    encoded = ids.combine_chunks().dictionary_encode()
    counts = np.zeros(len(encoded.dictionary), np.int64)
    np.add.at(
        counts,
        encoded.indices.to_numpy(),
        np.concatenate([piece.counts for piece in pieces]),
    )
    return ItemCounts(encoded.dictionary, counts)


class CountItems(beam.CombineFn):
    """Adds up item counts; the result has the items by the bytes of their ids.

    Args:
        minimum: Items with fewer interactions are left out of the result: whatever is
            dropped later, they cannot get more.
    """

    def __init__(self, minimum: int) -> None:
        self._minimum = minimum

    def create_accumulator(self) -> list[ItemCounts]:  # noqa: D102
        return []

    def add_input(  # noqa: D102
        self, accumulator: list[ItemCounts], element: ItemCounts
    ) -> list[ItemCounts]:
        accumulator.append(element)
        return (
            self.compact(accumulator) if len(accumulator) >= _MERGE_AT else accumulator
        )

    def merge_accumulators(  # noqa: D102
        self, accumulators: Iterable[list[ItemCounts]]
    ) -> list[ItemCounts]:
        return self.compact([piece for pieces in accumulators for piece in pieces])

    def compact(self, accumulator: list[ItemCounts]) -> list[ItemCounts]:  # noqa: D102
        return [_merge(accumulator)] if accumulator else []

    def extract_output(self, accumulator: list[ItemCounts]) -> ItemCounts:  # noqa: D102
        if not accumulator:
            return ItemCounts(pa.array([], pa.string()), np.zeros(0, np.int64))
        ids, counts = _merge(accumulator)
        enough = counts >= self._minimum
        ids, counts = ids.filter(pa.array(enough)), counts[enough]
        order = pc.array_sort_indices(ids)
        return ItemCounts(ids.take(order), counts[order.to_numpy()])
