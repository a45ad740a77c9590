"""What makes a row good: its values, one rule each.

The columns may be of any type that a format has. Each rule looks at a whole column and
is quick where nothing is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline import timestamps
from adaptiverec.pipeline.columns import is_required, wanted_columns
from adaptiverec.pipeline.interactions import (
    ITEM,
    ORDER,
    RATING,
    TIME,
    USER,
    schema_of,
)
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.strings import (
    as_mask,
    as_text,
    is_ascii,
    map_distinct,
    offsets_and_bytes,
    trimmed_is_empty,
)
from adaptiverec.pipeline.time_options import MICROSECONDS_PER_UNIT

__all__ = ["GOOD", "NOT_IN_ENCODING", "NOT_UTF8", "REASONS", "RowRules"]

NOT_UTF8 = "text is not UTF-8"
NOT_IN_ENCODING = "text is not valid in its encoding"
# Why a row is rejected. Where several hold, the first in this order is given.
REASONS = (
    "carriage return inside the row",
    "quote not closed",
    "quote not closed in its line",
    "control characters throughout the row",
    "wrong number of fields",
    "not a JSON object",
    NOT_UTF8,
    NOT_IN_ENCODING,
    "user is missing",
    "item is missing",
    "time is missing",
    "order is missing",
    "rating is missing",
    "user is not text or a number",
    "item is not text or a number",
    "time is not text or a number",
    "order is not text or a number",
    "rating is not text or a number",
    "event is not text or a number",
    "control character in user",
    "control character in item",
    "time is not a number",
    "time is not a date",
    "time is out of range",
    "order is not an integer",
    "rating is not a number",
)
GOOD = -1

# Control characters, and what else Unicode calls a line break.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"
_WHITE_SPACE = " \t\n\r\x0b\x0c"


class Judged(NamedTuple):
    """Rows that were judged.

    Attributes:
        batch: The good ones, of schema ``schema_of(options)``.
        reasons: For each row, good or bad, ``GOOD`` or the position of its reason in
            ``REASONS``, int8 of shape [n]; None where all are good.
    """

    batch: pa.RecordBatch
    reasons: np.ndarray | None


class _Findings:
    """What is wrong with which rows."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._found: dict[str, np.ndarray] = {}

    def add(self, reason: str, rows: np.ndarray | None) -> None:
        """Notes rows, bool of shape [n] or None for none."""
        if rows is not None and rows.any():
            known = self._found.get(reason)
            self._found[reason] = rows if known is None else known | rows

    def reasons(self) -> np.ndarray | None:
        """The first reason of each row, if there is any."""
        if not self._found:
            return None
        reasons = np.full(self._num_rows, GOOD, np.int8)
        for code in range(len(REASONS) - 1, -1, -1):
            if REASONS[code] in self._found:
                reasons[self._found[REASONS[code]]] = code
        return reasons


class RowRules:
    """Turns raw columns into a batch of good rows and reasons for the bad ones.

    Args:
        options: What ``prepare`` was asked for.
    """

    def __init__(self, options: PrepareOptions) -> None:
        self._schema = schema_of(options)
        self._fields = list(wanted_columns(options))
        self._time_format = options.time_format
        self._time_zone = options.time_zone
        self._trim = options.trim_ids
        self._lowercase = options.lowercase_ids

    def judge(
        self,
        columns: Mapping[str, pa.Array],
        *,
        not_text: str = NOT_UTF8,
        not_scalar: Mapping[str, np.ndarray] | None = None,
    ) -> Judged:
        """Judges rows by their values.

        Args:
            columns: For each field that the options name a column for, n values of any
                type that stands for text, a number or a time; null where the row has
                none.
            not_text: The reason of rows with text in bytes that are no UTF-8.
            not_scalar: For fields, where the row has something that stands for
                neither, bool of shape [n] each; the column is null there.
        """
        num_rows = len(columns[USER])
        found = _Findings(num_rows)
        for field, rows in (not_scalar or {}).items():
            found.add(f"{field} is not text or a number", rows)
        ready: dict[str, pa.Array] = {TIME: None}
        for field in self._fields:
            column = columns[field]
            if field in (USER, ITEM):
                ready[field] = self._ids(field, column, found, not_text, not_scalar)
                continue
            if not _is_typed(column):
                column, bad = as_text(column)
                found.add(not_text, bad)
            if is_required(field):
                column = _fill(field, column, found, not_scalar)
            if field == TIME:
                ready[field] = self._times(column, found)
            elif field == ORDER:
                ready[field] = _integers(column, found)
            elif field == RATING:
                ready[field] = _numbers(column, found)
            else:
                ready[field] = _texts(column)
        if ready[TIME] is None:
            ready[TIME] = pa.array(np.zeros(num_rows, np.int64))
        arrays = [ready[name] for name in self._schema.names]
        batch = pa.record_batch(arrays, schema=self._schema)
        reasons = found.reasons()
        if reasons is not None:
            batch = batch.filter(pa.array(reasons == GOOD))
        return Judged(batch, reasons)

    def _ids(
        self,
        field: str,
        column: pa.Array,
        found: _Findings,
        not_text: str,
        not_scalar: Mapping[str, np.ndarray] | None,
    ) -> pa.Array:
        ids, bad = as_text(column)
        found.add(not_text, bad)
        if ids.null_count:
            missing = as_mask(ids.is_null())
            if not_scalar and field in not_scalar:
                missing &= ~not_scalar[field]
            found.add(f"{field} is missing", missing)
            ids = ids.fill_null("?")
        if self._trim:
            ids = pc.ascii_trim(ids, _WHITE_SPACE)
        if self._lowercase:
            ids = _lower(ids)
        if not _are_plain(ids):
            found.add(f"{field} is missing", trimmed_is_empty(ids))
            control = pc.match_substring_regex(ids, _CONTROL)
            found.add(f"control character in {field}", as_mask(control))
        return ids

    def _times(self, column: pa.Array, found: _Findings) -> pa.Array:
        times = timestamps.convert(column, self._time_format, self._time_zone)
        in_units = self._time_format in MICROSECONDS_PER_UNIT
        not_a = "number" if in_units else "date"
        found.add(f"time is not a {not_a}", times.unreadable)
        found.add("time is out of range", times.out_of_range)
        return pa.array(times.values)


def _is_typed(column: pa.Array) -> bool:
    """Whether a column is numbers or times, not text."""
    kind = column.type
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
    )


def _are_plain(ids: pa.Array) -> bool:
    """Whether no id is empty, nor has anything but printable ASCII without the space.

    One pass over the bytes tells for most logs that no id is missing or has a control
    character.
    """
    if not len(ids):
        return True
    offsets, data = offsets_and_bytes(ids)
    if (offsets[1:] == offsets[:-1]).any():
        return False
    used = data[offsets[0] : offsets[-1]]
    return bool(used.min() > 0x20 and used.max() < 0x7F)


def _lower(ids: pa.Array) -> pa.Array:
    if is_ascii(ids):
        return pc.ascii_lower(ids)
    # Arrow's tables of Unicode are not Python's.
    encoded = pc.dictionary_encode(ids)
    distinct = encoded.dictionary.to_pylist()
    return map_distinct(encoded, [text.lower() for text in distinct])


def _fill(
    field: str,
    column: pa.Array,
    found: _Findings,
    not_scalar: Mapping[str, np.ndarray] | None,
) -> pa.Array:
    """Notes where a column has no value, and puts one there that can be read."""
    if column.null_count:
        missing = as_mask(column.is_null())
        if not_scalar and field in not_scalar:
            missing &= ~not_scalar[field]
        found.add(f"{field} is missing", missing)
        zero = "0" if pa.types.is_string(column.type) else _zero(column.type)
        column = column.fill_null(zero)
    if pa.types.is_string(column.type):
        found.add(f"{field} is missing", trimmed_is_empty(column))
    return column


def _zero(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_date32(kind):
        return pa.scalar(0, pa.int32()).cast(kind)
    return pa.scalar(0, pa.int64()).cast(kind)


def _integers(column: pa.Array, found: _Findings) -> pa.Array:
    if column.type == pa.int64():
        return column
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        return column.cast(pa.int64())
    texts = pc.ascii_trim(column.cast(pa.string()), " \t")
    integers = timestamps.cast_or_null(texts, pa.int64(), timestamps.INTEGER)
    found.add("order is not an integer", as_mask(integers.is_null()))
    return integers.fill_null(0)


def _numbers(column: pa.Array, found: _Findings) -> pa.Array:
    if _is_typed(column):
        numbers = pc.cast(column, pa.float64(), safe=False)
    else:
        texts = pc.ascii_trim(column, " \t")
        numbers = timestamps.cast_or_null(texts, pa.float64(), timestamps.DECIMAL)
        numbers = numbers.fill_null(np.nan)
    finite = np.isfinite(numbers.to_numpy())
    if not finite.all():
        found.add("rating is not a number", ~finite)
    return numbers


def _texts(column: pa.Array) -> pa.Array:
    column = column.cast(pa.string())
    return column.fill_null("") if column.null_count else column
