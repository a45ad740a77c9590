"""How many interactions each item has, combined from all partitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline.item_table import ItemTable
from adaptiverec.pipeline.sequences import Sequences

__all__ = ["CountItems", "CountedItems", "ItemCounts"]

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


class CountedItems(NamedTuple):
    """The items of the whole log that are not too rare.

    Attributes:
        item_ids: String array [num_items], ascending by their bytes.
        counts: int64 of shape [num_items].
        table: Where each of them is in ``item_ids``.
    """

    item_ids: pa.Array
    counts: np.ndarray
    table: ItemTable


class CountItems(beam.CombineFn):
    """Adds up item counts, to :class:`CountedItems`.

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

    def extract_output(  # noqa: D102
        self, accumulator: list[ItemCounts]
    ) -> CountedItems:
        empty = ItemCounts(pa.array([], pa.string()), np.zeros(0, np.int64))
        all_ids, all_counts = _merge([*accumulator, empty])
        listed = np.full(len(all_ids), -1, np.int32)
        enough = np.flatnonzero(all_counts >= self._minimum)
        ids = all_ids.take(pa.array(enough))
        order = pc.array_sort_indices(ids)
        by_bytes = enough[order.to_numpy()]
        listed[by_bytes] = np.arange(len(by_bytes), dtype=np.int32)
        table = ItemTable.of(all_ids, listed)
        return CountedItems(ids.take(order), all_counts[by_bytes], table)
