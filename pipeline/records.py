"""Where the rows of delimited text begin and end.

A row is a line, or several where quoted fields may hold line breaks. Then a stray quote
must not take along all that follows it: rows of several lines must be well formed, have
the right number of fields, and end within a mebibyte; otherwise their first line is a
row of its own, and a bad one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from adaptiverec.pipeline.delimiters import with_stand_in
from adaptiverec.pipeline.file_parts import CsvForm
from adaptiverec.pipeline.quoting import (
    count_fields,
    ends_inside_quotes,
    match_record,
)
from adaptiverec.pipeline.transcode import TextBlock

__all__ = ["Joins", "Records", "cut_at_records", "lines_with", "records_of"]

_NEWLINE, _RETURN = b"\n\r"
_MAX_RECORD_BYTES = 1 << 20


class Joins(NamedTuple):
    """Which lines of a block belong together.

    Attributes:
        follows: Whether a line goes on with the row of the line before it, bool of
            shape [lines].
        unclosed: Whether a line opens a quote that nothing closes, bool of shape
            [lines].
    """

    follows: np.ndarray
    unclosed: np.ndarray


class Records(NamedTuple):
    """The rows of a block, blank lines left out; int64 of shape [rows] each.

    Attributes:
        starts: Where each begins.
        stops: Where each ends without its line break.
        nexts: Where each ends with it.
        lines: The number of its first line in the block.
    """

    starts: np.ndarray
    stops: np.ndarray
    nexts: np.ndarray
    lines: np.ndarray


def records_of(data: bytes, joins: Joins | None) -> Records:
    """Finds the rows of a block of whole lines, the last of which ends."""
    block = np.frombuffer(data, np.uint8)
    nexts = np.flatnonzero(block == _NEWLINE) + 1
    starts = np.concatenate((np.zeros(min(1, len(nexts)), np.int64), nexts[:-1]))
    lines = np.arange(len(nexts))
    if joins is not None:
        begins = ~joins.follows
        ends = np.append(begins[1:], True)[: len(begins)]
        starts, nexts, lines = starts[begins], nexts[ends], lines[begins]
    breaks = nexts - 1
    stops = breaks - ((breaks > starts) & (block[breaks - 1] == _RETURN))
    filled = stops > starts
    return Records(*(part[filled] for part in (starts, stops, nexts, lines)))


def lines_with(block: np.ndarray, byte: int, records: Records) -> np.ndarray:
    """How often each row has a byte, int64 of shape [rows].

    Args:
        block: The block's bytes, uint8.
        byte: Which one.
        records: The rows.
    """
    positions = np.flatnonzero(block == byte)
    return np.searchsorted(positions, records.stops) - np.searchsorted(
        positions, records.starts
    )


def cut_at_records(
    blocks: Iterator[TextBlock], form: CsvForm
) -> Iterator[tuple[TextBlock, Joins]]:
    """Cuts a file of rows that may be of several lines into blocks of whole rows.

    Args:
        blocks: The file from the beginning of a row, in blocks of whole lines.
        form: How it is written.

    Yields:
        Blocks, and which of their lines belong together.
    """
    rest = None
    for block in blocks:
        if rest is not None:
            block = rest.joined(block)
        joins, end = _join_lines(block.data, form, final=False)
        head, rest = block.cut(end)
        if head.data:
            yield head, joins
    if rest is not None and rest.data:
        joins, _ = _join_lines(rest.data, form, final=True)
        yield rest, joins


def _join_lines(data: bytes, form: CsvForm, *, final: bool) -> tuple[Joins, int]:
    """Which lines belong together, and where the last whole row ends."""
    if final and not data.endswith(b"\n"):
        data += b"\n"
    # Line by line, the block with stand-ins is the block itself.
    ends = _line_ends(data)
    replaced = with_stand_in(data, form.delimiter.encode())
    follows = np.zeros(len(ends), bool)
    unclosed = np.zeros(len(ends), bool)
    joins = Joins(follows, unclosed)
    quote = form.quote.encode()
    if not quote or replaced is None:
        return joins, len(data) if final else int(ends[-1]) if len(ends) else 0
    data, delimiter = replaced
    nexts = _line_ends(data)
    starts = np.concatenate(([0], nexts))
    next_line = 0
    for line in _suspects(data, nexts, delimiter, quote).tolist():
        if line < next_line:
            continue
        start, stop = int(starts[line]), int(nexts[line]) - 1
        if not ends_inside_quotes(data[start:stop], delimiter, quote):
            continue
        limit = start + _MAX_RECORD_BYTES
        found = match_record(data, start, limit, delimiter, quote)
        if found is None:
            if not final and limit > len(data):
                # It may end in the next block.
                before = ends[line - 1] if line else 0
                return Joins(follows[:line], unclosed[:line]), int(before)
            unclosed[line] = True
        elif count_fields(data[start : found[0]], delimiter, quote) != form.num_fields:
            unclosed[line] = True
        else:
            next_line = int(np.searchsorted(nexts, found[1])) + 1
            follows[line + 1 : next_line] = True
    return joins, len(data) if final else int(ends[-1]) if len(ends) else 0


def _suspects(
    data: bytes, nexts: np.ndarray, delimiter: bytes, quote: bytes
) -> np.ndarray:
    """The numbers of the lines with quotes, but for those that surely close them.

    A line surely does where its quotes come in pairs, each of them all around a field.
    """
    block = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(block == quote[0])
    lines = np.searchsorted(nexts, quotes, side="right")
    quotes, lines = quotes[lines < len(nexts)], lines[lines < len(nexts)]
    counts = np.bincount(lines, minlength=len(nexts))
    suspect = counts % 2 == 1
    # The place of each quote in its line: even ones open.
    place = np.arange(len(quotes)) - (np.cumsum(counts) - counts)[lines]
    opens = place % 2 == 0
    around = np.where(opens, quotes - 1, quotes + 1)
    # Before the first byte is the last one, a line feed.
    beside = block[around]
    ends_field = (beside == delimiter[0]) | (beside == _NEWLINE)
    ends_field |= ~opens & (beside == _RETURN)
    suspect[lines[~ends_field]] = True
    return np.flatnonzero(suspect & (counts > 0))


def _line_ends(data: bytes) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1
