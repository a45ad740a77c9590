"""Times in text or numbers to microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline.strings import as_mask
from adaptiverec.pipeline.time_options import MICROSECONDS_PER_UNIT, is_pattern
from adaptiverec.pipeline.time_patterns import parse_times
from adaptiverec.pipeline.time_zones import clock_of

__all__ = [
    "DECIMAL",
    "INTEGER",
    "Times",
    "cast_or_null",
    "column_types",
    "convert",
    "is_exact",
]

_MAX = 2**63 - 1
# Up to here every integer is exact in a float64.
_MAX_EXACT_FLOAT = 2.0**53

# What Arrow's parsers read, so that text read with care means what a whole column read
# at once does. Arrow takes hexadecimal integers too.
INTEGER = r"^(-?[0-9]+|0[xX][0-9a-fA-F]{1,16})$"
DECIMAL = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
_LOCAL = rf"^{_DAY}([ T]{_CLOCK})?$"
_ZONED = rf"^{_DAY}[ T]{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"
# Microseconds in one of Arrow's units, or how many of it are in a microsecond.
_MULTIPLES = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NANOSECONDS_PER_MICROSECOND = 1_000
_MICROSECONDS_PER_DAY = 86_400_000_000


class Times(NamedTuple):
    """Converted times.

    Attributes:
        values: int64 of shape [n] in microseconds, 0 where there is none.
        unreadable: Bool of shape [n], or None where all could be read.
        out_of_range: Bool of shape [n], or None where all fit.
    """

    values: np.ndarray
    unreadable: np.ndarray | None = None
    out_of_range: np.ndarray | None = None


def column_types(time_format: str) -> tuple[pa.DataType, ...]:
    """The types to try, in this order, for a whole column of text."""
    if is_pattern(time_format):
        return (pa.string(),)
    if time_format == "iso8601":
        return pa.timestamp("us"), pa.timestamp("us", "UTC")
    return pa.int64(), pa.float64()


def is_exact(column: pa.Array, time_format: str) -> bool:
    """Whether text that was read as such a column says the same.

    Integers in a column of decimals are not, beyond what a float64 holds.
    """
    if not pa.types.is_floating(column.type):
        return True
    if column.null_count or time_format not in MICROSECONDS_PER_UNIT:
        return False
    # Divided, since a product may be more than a float64 can be.
    limit = _MAX_EXACT_FLOAT / MICROSECONDS_PER_UNIT[time_format]
    return bool((np.abs(column.to_numpy()) <= limit).all())


def convert(column: pa.Array, time_format: str, time_zone: str = "UTC") -> Times:
    """Converts a column of times.

    Args:
        column: n strings, numbers, timestamps or dates, no nulls.
        time_format: As in ``prepare``; strings and numbers are read by it.
        time_zone: As in ``prepare``.
    """
    if pa.types.is_timestamp(column.type):
        times = _from_timestamps(column)
        if column.type.tz is None:
            return times._replace(values=clock_of(time_zone).to_utc(times.values))
        return times
    if pa.types.is_date(column.type):
        days = column.cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
        times = _scale(days, _MICROSECONDS_PER_DAY)
        return times._replace(values=clock_of(time_zone).to_utc(times.values))
    in_units = time_format in MICROSECONDS_PER_UNIT
    if in_units and pa.types.is_integer(column.type) and column.type != pa.uint64():
        integers = column.cast(pa.int64()).to_numpy()
        return _scale(integers, MICROSECONDS_PER_UNIT[time_format])
    if in_units and pa.types.is_floating(column.type):
        decimals = column.cast(pa.float64()).to_numpy()
        return _scale_decimals(decimals, MICROSECONDS_PER_UNIT[time_format])
    texts = column.cast(pa.string())
    if is_pattern(time_format):
        values, unreadable = parse_times(texts, time_format, clock_of(time_zone))
        return Times(values, _any(unreadable))
    texts = pc.ascii_trim(texts, " \t")
    if time_format == "iso8601":
        return _from_iso(texts, time_zone)
    return _from_numbers(texts, MICROSECONDS_PER_UNIT[time_format])


def _any(mask: np.ndarray) -> np.ndarray | None:
    return mask if mask.any() else None


def _from_timestamps(column: pa.Array) -> Times:
    numbers = column.cast(pa.int64()).to_numpy()
    if column.type.unit == "ns":
        # Digits beyond microseconds are cut off, as in text.
        return Times(numbers // _NANOSECONDS_PER_MICROSECOND)
    return _scale(numbers, _MULTIPLES[column.type.unit])


def _scale(integers: np.ndarray, scale: int) -> Times:
    limit = _MAX // scale
    if not len(integers) or (-limit <= integers.min() and integers.max() <= limit):
        return Times(integers * scale)
    fits = (-limit <= integers) & (integers <= limit)
    return Times(np.where(fits, integers, 0) * scale, None, ~fits)


def _scale_decimals(decimals: np.ndarray, scale: int) -> Times:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(decimals * scale)
        fits = np.abs(scaled) < 2.0**63
    unreadable = np.isnan(decimals)
    times = np.where(fits, scaled, 0.0).astype(np.int64)
    return Times(times, _any(unreadable), _any(~fits & ~unreadable))


def _from_iso(texts: pa.Array, time_zone: str) -> Times:
    # Beyond microseconds, digits are cut off.
    texts = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
    local = cast_or_null(texts, pa.timestamp("us"), _LOCAL).cast(pa.int64())
    zoned = cast_or_null(texts, pa.timestamp("us", "UTC"), _ZONED).cast(pa.int64())
    is_local, is_zoned = as_mask(local.is_valid()), as_mask(zoned.is_valid())
    times = zoned.fill_null(0).to_numpy().copy()
    shown = local.fill_null(0).to_numpy()[is_local]
    times[is_local] = clock_of(time_zone).to_utc(shown)
    return Times(times, _any(~is_local & ~is_zoned))


def _from_numbers(texts: pa.Array, scale: int) -> Times:
    integers = cast_or_null(texts, pa.int64(), INTEGER)
    is_integer = as_mask(integers.is_valid())
    exact = _scale(integers.fill_null(0).to_numpy(), scale)
    decimals = cast_or_null(texts, pa.float64(), DECIMAL)
    unreadable = as_mask(decimals.is_null()) & ~is_integer
    rounded = _scale_decimals(decimals.fill_null(0.0).to_numpy(), scale)
    out_of_range = np.zeros(len(texts), bool)
    if exact.out_of_range is not None:
        out_of_range |= is_integer & exact.out_of_range
    if rounded.out_of_range is not None:
        out_of_range |= ~is_integer & ~unreadable & rounded.out_of_range
    times = np.where(is_integer, exact.values, rounded.values)
    return Times(times, _any(unreadable), _any(out_of_range))


def cast_or_null(texts: pa.Array, kind: pa.DataType, pattern: str) -> pa.Array:
    """Casts the texts that match ``pattern`` and can be cast; null for the others."""
    matches = pc.match_substring_regex(texts, pattern)
    candidates = pc.if_else(matches, texts, pa.scalar(None, pa.string()))
    return _cast_halves(candidates, kind)


def _cast_halves(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    # A cast is all or nothing. Few texts match a pattern and still fail, such as 30
    # February, so halving finds them in a few casts.
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, kind)
    middle = len(texts) // 2
    halves = (texts.slice(0, middle), texts.slice(middle))
    return pa.concat_arrays([_cast_halves(half, kind) for half in halves])
