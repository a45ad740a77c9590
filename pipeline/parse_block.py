"""A block of delimited text to a batch: all at once, or with care if that fails.

pyarrow's CSV reader parses a clean block in one go. It has one answer to anything
unexpected, which is to refuse the whole block; and where it does not refuse, it may
still have swallowed a line into a quoted field. Both are noticed here, and such a block
is parsed again by :mod:`adaptiverec.pipeline.parse_lines`, which finds the bad rows.
The two give the same columns wherever both succeed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline import timestamps
from adaptiverec.pipeline.delimiters import with_stand_in
from adaptiverec.pipeline.file_parts import CsvForm
from adaptiverec.pipeline.interactions import ORDER, RATING, TIME
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parse_lines import parse_lines, read_columns
from adaptiverec.pipeline.quoting import ends_inside_quotes
from adaptiverec.pipeline.records import Joins, records_of
from adaptiverec.pipeline.reject import ParsedRows, Rejects
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.transcode import TextBlock

__all__ = ["BlockParser"]

_NEWLINE, _RETURN = b"\n\r"


class BlockParser:
    """Parses blocks of whole lines; remembers which type of times worked last.

    Args:
        options: What ``prepare`` was asked for.
        rules: What makes a row good.
    """

    def __init__(self, options: PrepareOptions, rules: RowRules) -> None:
        self._time_format = options.time_format
        self._rules = rules
        self._time_types = list(timestamps.column_types(options.time_format))

    def parse(
        self, block: TextBlock, form: CsvForm, joins: Joins | None = None
    ) -> ParsedRows:
        """Parses a block.

        Args:
            block: Whole lines; the last may lack its line break.
            form: How they are written.
            joins: Which lines belong together; by default every line is a row.
        """
        replaced = with_stand_in(block.data, form.delimiter.encode())
        if replaced is not None:
            batch = self._parse_at_once(*replaced, form, joins)
            if batch is not None:
                return ParsedRows(batch, Rejects(), block.offset)
        return parse_lines(block, form, self._rules, joins)

    def _parse_at_once(
        self, data: bytes, delimiter: bytes, form: CsvForm, joins: Joins | None
    ) -> pa.RecordBatch | None:
        if joins is None:
            if not lines_stand_alone(data, delimiter, form.quote.encode()):
                return None
        elif joins.unclosed.any() or has_lone_returns(data):
            return None
        columns = self._read(data, form, delimiter)
        if columns is None:
            return None
        num_rows = len(next(iter(columns.values())))
        if joins is None or not joins.follows.any():
            if not has_filled_lines(data, num_rows):
                return None
        else:
            ended = data if data.endswith(b"\n") else data + b"\n"
            if num_rows != len(records_of(ended, joins).starts):
                return None
        times = columns.get(dict(form.positions).get(TIME, -1))
        if times is not None and not timestamps.is_exact(times, self._time_format):
            return None
        judged = self._rules.judge(
            {field: columns[position] for field, position in form.positions}
        )
        # A bad row still has to be found in its line.
        return judged.batch if judged.reasons is None else None

    def _read(
        self, data: bytes, form: CsvForm, delimiter: bytes
    ) -> dict[int, pa.Array] | None:
        for kind in tuple(self._time_types):
            types: dict[int, pa.DataType] = {}
            wanted = {ORDER: pa.int64(), RATING: pa.float64(), TIME: kind}
            for field, position in form.positions:
                # A column that is wanted for two things is read as text.
                twice = position in types
                types[position] = (
                    pa.string() if twice else wanted.get(field, pa.string())
                )
            try:
                columns = read_columns(data, form, delimiter, types)
            except pa.ArrowInvalid as error:
                if "conversion error" in str(error):
                    # Another type may do.
                    continue
                return None
            # The next block most likely looks like this one.
            self._time_types.remove(kind)
            self._time_types.insert(0, kind)
            return columns
        return None


def lines_stand_alone(data: bytes, delimiter: bytes, quote: bytes) -> bool:
    """Whether lines end at line feeds alone, and the last one outside of quotes.

    The CSV reader also ends lines at a lone carriage return, and by itself closes a
    quote that is still open at the end.
    """
    if has_lone_returns(data):
        return False
    if not quote:
        return True
    stripped = data.rstrip(b"\r\n")
    last_line = stripped[stripped.rfind(b"\n") + 1 :]
    return not ends_inside_quotes(last_line, delimiter, quote)


def has_lone_returns(data: bytes) -> bool:
    """Whether a carriage return is not followed by a line feed."""
    return b"\r" in data and data.count(b"\r") != data.count(b"\r\n")


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
