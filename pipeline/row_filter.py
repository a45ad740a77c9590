"""Which good rows count."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline.interactions import EVENT, RATING, TIME
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.strings import as_mask

__all__ = ["RowFilter"]


class RowFilter:
    """The rules by which good rows do not count.

    Args:
        options: What ``prepare`` was asked for.
    """

    def __init__(self, options: PrepareOptions) -> None:
        self._options = options
        self._event_types = pa.array(options.event_types, pa.string())

    def apply(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[str, int]]:
        """Filters a batch.

        Returns:
            ``(batch, filtered)``: the rows that count, and for each rule how many it
            filtered; a row that several rules filter counts for the first of them.
        """
        options = self._options
        filtered: dict[str, int] = {}
        if options.event_types:
            counts = pc.is_in(batch.column(EVENT), value_set=self._event_types)
            batch = _keep(batch, as_mask(counts), "event_types", filtered)
        if options.min_rating is not None:
            ratings = batch.column(RATING).to_numpy()
            keep = ratings >= options.min_rating
            batch = _keep(batch, keep, "min_rating", filtered)
        if options.start_time is not None:
            keep = batch.column(TIME).to_numpy() >= options.start_time
            batch = _keep(batch, keep, "start_time", filtered)
        if options.end_time is not None:
            keep = batch.column(TIME).to_numpy() < options.end_time
            batch = _keep(batch, keep, "end_time", filtered)
        return batch, filtered


def _keep(
    batch: pa.RecordBatch, rows: np.ndarray, rule: str, filtered: dict[str, int]
) -> pa.RecordBatch:
    dropped = len(rows) - int(np.count_nonzero(rows))
    if not dropped:
        return batch
    filtered[rule] = dropped
    return batch.filter(pa.array(rows))
