"""A block of whole lines to typed columns: all at once, or with care if that fails.

pyarrow's CSV reader parses a clean block in one go. It has one answer to anything
unexpected, which is to refuse the whole block; and where it does not refuse, it may
still have swallowed a line into a quoted field. Both are noticed here, and such a block
is parsed again by :mod:`adaptiverec.pipeline.parse_lines`, which finds the bad rows.
The two give the same columns wherever both succeed.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline import timestamps
from adaptiverec.pipeline.parse_lines import (
    INTERACTIONS,
    Layout,
    Rejects,
    ends_inside_quotes,
    has_bad_ids,
    parse_lines,
    read_columns,
)

__all__ = ["BlockParser", "ParsedBlock"]

_NEWLINE, _RETURN = 10, 13


@dataclasses.dataclass(frozen=True)
class ParsedBlock:
    """The rows of a block.

    Attributes:
        batch: The good rows, of schema ``INTERACTIONS``.
        rejects: The bad ones.
    """

    batch: pa.RecordBatch
    rejects: Rejects

    @property
    def rows_read(self) -> int:
        """Good and bad rows together."""
        return self.batch.num_rows + len(self.rejects.lines)


class BlockParser:
    """Parses blocks of whole lines; remembers which type of times worked last.

    Args:
        time_format: As in ``prepare``.
    """

    def __init__(self, time_format: str) -> None:
        self._time_format = time_format
        self._types = list(timestamps.column_types(time_format))

    def parse(self, data: bytes, layout: Layout) -> ParsedBlock:
        """Parses a block.

        Args:
            data: Whole lines; the last may lack its line break.
            layout: Where the columns are.

        Returns:
            The rows; offsets of rejected ones count from the start of ``data``.
        """
        if lines_stand_alone(data, layout.delimiter):
            for kind in tuple(self._types):
                batch = self._parse_at_once(data, layout, kind)
                if batch is not None:
                    # The next block most likely looks like this one.
                    self._types.remove(kind)
                    self._types.insert(0, kind)
                    return ParsedBlock(batch, Rejects())
        return ParsedBlock(*parse_lines(data, layout, self._time_format))

    def _parse_at_once(
        self, data: bytes, layout: Layout, kind: pa.DataType
    ) -> pa.RecordBatch | None:
        try:
            users, items, column = read_columns(data, layout, pa.string(), kind)
        except pa.ArrowInvalid:
            return None
        if column.null_count or not has_filled_lines(data, len(column)):
            return None
        if has_bad_ids(users) or has_bad_ids(items):
            return None
        times = timestamps.from_column(column, self._time_format)
        if times is None:
            return None
        return pa.record_batch([users, items, pa.array(times)], schema=INTERACTIONS)


def lines_stand_alone(data: bytes, delimiter: str) -> bool:
    """Whether lines end at line feeds alone, and the last one outside of quotes.

    The CSV reader also ends lines at a lone carriage return, and by itself closes a
    quote that is still open at the end.
    """
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        return False
    stripped = data.rstrip(b"\r\n")
    last_line = stripped[stripped.rfind(b"\n") + 1 :]
    return not ends_inside_quotes(last_line, delimiter)


def has_filled_lines(data: bytes, expected: int) -> bool:
    """Whether as many lines as expected hold more than their line break.

    The CSV reader skips blank lines, and takes lines together where a quote is open: it
    never gives more rows than there are lines.
    """
    block = np.frombuffer(data, np.uint8)
    unended = len(block) > 0 and block[-1] != _NEWLINE
    if np.count_nonzero(block == _NEWLINE) + unended == expected:
        return True
    breaks = np.flatnonzero(block == _NEWLINE)
    lengths = np.diff(breaks, prepend=-1) - 1
    blank = (lengths == 0) | ((lengths == 1) & (block[breaks - 1] == _RETURN))
    return bool(len(breaks) - np.count_nonzero(blank) + unended == expected)
