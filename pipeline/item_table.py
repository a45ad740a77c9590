"""From item ids to their positions in the sorted list of all items.

Every worker needs this for every partition. Hashes take its memory and its time down to
numbers: 12 bytes an item, and no table of strings to build again for each partition.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline import hashing

__all__ = ["ItemTable"]


class ItemTable(NamedTuple):
    """Positions by hash.

    Attributes:
        hashes: uint64 [num_listed], ascending, distinct.
        positions: int32 [num_listed].
        by_id: Positions of items whose hash another item has too, listed or not, since
            their hash says nothing; -1 for those that are not listed.
    """

    hashes: np.ndarray
    positions: np.ndarray
    by_id: dict[str, int]

    @classmethod
    def of(cls, item_ids: pa.Array, listed: np.ndarray) -> ItemTable:
        """Makes the table.

        Args:
            item_ids: String array [n]: all item ids of the log, distinct, also those
                that are not listed: a hash must tell it from every one of them.
            listed: int32 of shape [n], the position of each, -1 for none.
        """
        hashes = hashing.hash_strings(item_ids)
        order = np.argsort(hashes)
        hashes, positions = hashes[order], listed[order].astype(np.int32)
        shared = np.zeros(len(hashes), bool)
        shared[1:] = hashes[1:] == hashes[:-1]
        shared[:-1] |= shared[1:]
        ids = item_ids.take(pa.array(order[shared])).to_pylist()
        by_id = dict(zip(ids, positions[shared].tolist(), strict=True))
        alone = ~shared & (positions >= 0)
        return cls(hashes[alone], positions[alone], by_id)

    def positions_of(self, item_ids: pa.Array) -> np.ndarray:
        """Looks items up.

        Args:
            item_ids: String array [m] of items of the log.

        Returns:
            int32 of shape [m]; -1 where an item is not listed.
        """
        hashes = hashing.hash_strings(item_ids)
        positions = np.full(len(hashes), -1, np.int32)
        if len(self.hashes):
            # In their order, so that neighbours in the table are read together.
            order = np.argsort(hashes)
            wanted = hashes[order]
            places = np.searchsorted(self.hashes, wanted)
            places[places == len(self.hashes)] = 0
            found = self.hashes[places] == wanted
            positions[order[found]] = self.positions[places[found]]
        if self.by_id:
            for row, item_id in enumerate(item_ids.to_pylist()):
                positions[row] = self.by_id.get(item_id, positions[row])
        return positions
