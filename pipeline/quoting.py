"""Quoted fields in delimited text, where Arrow's reader leaves questions open.

Only a field that begins with a quote is quoted; a doubled quote inside it is a quote;
what follows the closing quote is taken as it is. Delimiters and quotes are one byte
each here (see :mod:`adaptiverec.pipeline.delimiters`). All patterns are possessive: no
backtracking, whatever the text.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["count_fields", "ends_inside_quotes", "match_record", "split_fields"]


@lru_cache
def _open_pattern(delimiter: bytes, quote: bytes) -> re.Pattern[bytes]:
    d, q = re.escape(delimiter), re.escape(quote)
    closed = rb"%b(?:[^%b]++|%b%b)*+%b[^%b]*+" % (q, q, q, q, q, d)
    plain = rb"[^%b%b][^%b]*+" % (q, d, d)
    last = rb"%b(?:[^%b]++|%b%b)*+" % (q, q, q, q)
    return re.compile(rb"(?:(?:%b|%b)?+%b)*+%b" % (closed, plain, d, last))


def ends_inside_quotes(line: bytes, delimiter: bytes, quote: bytes) -> bool:
    """Whether a line's last field opens a quote and does not close it."""
    return _open_pattern(delimiter, quote).fullmatch(line) is not None


@lru_cache
def _field_pattern(delimiter: bytes, quote: bytes) -> re.Pattern[bytes]:
    d, q = re.escape(delimiter), re.escape(quote)
    quoted = rb"(?:%b((?:[^%b]++|%b%b)*+)%b)?+" % (q, q, q, q, q)
    return re.compile(rb"%b([^%b]*+)(?:(%b)|\Z)" % (quoted, d, d))


def count_fields(line: bytes, delimiter: bytes, quote: bytes) -> int:
    """The fields of a line whose quotes are closed."""
    pattern = _field_pattern(delimiter, quote)
    position, fields = 0, 1
    while match := pattern.match(line, position):
        if match.group(3) is None:
            break
        fields += 1
        position = match.end()
    return fields


def split_fields(line: bytes, delimiter: bytes, quote: bytes) -> list[bytes]:
    """The fields of a line whose quotes are closed, without their quotes.

    Args:
        line: The line.
        delimiter: What is between fields.
        quote: What fields are quoted with, or nothing.
    """
    if not quote:
        return line.split(delimiter)
    pattern = _field_pattern(delimiter, quote)
    fields: list[bytes] = []
    position = 0
    while match := pattern.match(line, position):
        quoted, plain, more = match.groups()
        fields.append((quoted or b"").replace(quote * 2, quote) + plain)
        if more is None:
            break
        position = match.end()
    return fields


@lru_cache
def _record_pattern(delimiter: bytes, quote: bytes) -> re.Pattern[bytes]:
    d, q = re.escape(delimiter), re.escape(quote)
    # Here a closing quote must end its field: with less strictness a stray quote would
    # find a partner in any other.
    quoted = rb"%b(?:[^%b]++|%b%b)*+%b(?=%b|\r?\n)" % (q, q, q, q, q, d)
    plain = rb"(?!%b)[^%b\r\n]*+" % (q, d)
    field = rb"(?:%b|%b)" % (quoted, plain)
    return re.compile(rb"(?:%b%b)*+%b(\r?\n)" % (field, d, field))


def match_record(
    data: bytes, start: int, limit: int, delimiter: bytes, quote: bytes
) -> tuple[int, int] | None:
    """Finds the end of a record whose quoted fields may hold line breaks.

    Args:
        data: Whole lines.
        start: Where the record begins.
        limit: Where it must have ended.
        delimiter: What is between fields.
        quote: What fields are quoted with.

    Returns:
        ``(stop, end)``: the positions of its line break and behind it; None if it has
        none before ``limit``, or is not well formed.
    """
    match = _record_pattern(delimiter, quote).match(data, start, limit)
    return None if match is None else match.span(1)
