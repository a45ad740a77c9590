"""The sequences of one partition's users, as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

__all__ = ["Sequences"]

# Before the names of columns in a batch.
_COLUMN = "column/"


@dataclasses.dataclass(frozen=True)
class Sequences:
    """The sequences of U users: n interactions with I distinct items.

    Attributes:
        user_ids: String array [U], ascending by the hash of the id, then its bytes.
        offsets: int64 [U + 1]: user u has interactions ``offsets[u]:offsets[u + 1]``.
        item_ids: String array [I], distinct, in no particular order.
        items: int32 [n], positions in ``item_ids``.
        times: int64 [n], microseconds since 1970-01-01 UTC.
        columns: What else is kept beside each interaction, under its name in
            :func:`adaptiverec.pipeline.interactions.schema_of`: arrays [n] of type
            double or large_string. Mostly there are none.
    """

    user_ids: pa.Array
    offsets: np.ndarray
    item_ids: pa.Array
    items: np.ndarray
    times: np.ndarray
    columns: dict[str, pa.Array] = dataclasses.field(default_factory=dict)

    def to_batch(self) -> pa.RecordBatch:
        """One row whose columns are lists: arrays of unequal length in one batch."""
        arrays = {
            field.name: pa.array(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "columns"
        }
        for name, values in self.columns.items():
            arrays[_COLUMN + name] = values
        return one_row(arrays)

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Sequences:
        """The inverse of :meth:`to_batch`."""
        arrays = rows_of(batch)
        columns = {
            name.removeprefix(_COLUMN): arrays.pop(name)
            for name in batch.schema.names
            if name.startswith(_COLUMN)
        }
        numbers = ("offsets", "items", "times")
        return cls(
            **{**arrays, **{name: arrays[name].to_numpy() for name in numbers}},
            columns=columns,
        )


def one_row(arrays: dict[str, pa.Array]) -> pa.RecordBatch:
    """A batch of one row that holds whole arrays as lists."""
    return pa.record_batch(
        {
            name: pa.LargeListArray.from_arrays(
                pa.array([0, len(values)], pa.int64()), values
            )
            for name, values in arrays.items()
        }
    )


def rows_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The inverse of :func:`one_row`."""
    return {name: batch.column(name).values for name in batch.schema.names}
