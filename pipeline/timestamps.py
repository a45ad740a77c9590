"""Times in text or numbers to microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline.options import MICROSECONDS_PER_UNIT

__all__ = ["column_types", "from_column", "from_text"]

_MAX = 2**63 - 1
# Up to here every integer is exact in a float64.
_MAX_EXACT_FLOAT = 2.0**53

# What Arrow's parsers read, so that text read with care means what a whole column read
# at once does. Arrow takes hexadecimal integers too.
_INTEGER = r"^(-?[0-9]+|0[xX][0-9a-fA-F]{1,16})$"
_DECIMAL = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
_LOCAL = rf"^{_DAY}([ T]{_CLOCK})?$"
_ZONED = rf"^{_DAY}[ T]{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"


def column_types(time_format: str) -> tuple[pa.DataType, ...]:
    """The types to try, in this order, for a whole column of times."""
    if time_format == "iso8601":
        return pa.timestamp("us"), pa.timestamp("us", "UTC")
    return pa.int64(), pa.float64()


def from_column(column: pa.Array, time_format: str) -> np.ndarray | None:
    """Converts a column of one of :func:`column_types`.

    Args:
        column: n values, no nulls.
        time_format: As in ``prepare``.

    Returns:
        int64 of shape [n] in microseconds, or None where a value is out of range or
        not finite, so that its row has to be found.
    """
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy()
    scale = MICROSECONDS_PER_UNIT[time_format]
    values = column.to_numpy()
    if values.dtype == np.int64:
        limit = _MAX // scale
        if len(values) and not (-limit <= values.min() and values.max() <= limit):
            return None
        return values * scale
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * scale
    if not (np.abs(scaled) <= _MAX_EXACT_FLOAT).all():
        return None
    return np.rint(scaled).astype(np.int64)


def from_text(
    texts: pa.Array, time_format: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Converts texts one by one.

    Args:
        texts: A string array of n values, no nulls.
        time_format: As in ``prepare``.

    Returns:
        ``(times, unreadable, out_of_range)``: int64 of shape [n] in microseconds, 0
        where there is none, and two bool of shape [n].
    """
    texts = pc.ascii_trim(texts, " \t")
    if time_format == "iso8601":
        # Beyond microseconds, digits are cut off.
        texts = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
        local = _cast_or_null(texts, pa.timestamp("us"), _LOCAL)
        zoned = _cast_or_null(texts, pa.timestamp("us", "UTC"), _ZONED)
        both = pc.coalesce(local.cast(pa.int64()), zoned.cast(pa.int64()))
        unreadable = both.is_null().to_numpy(zero_copy_only=False)
        times = both.fill_null(0).to_numpy()
        return times, unreadable, np.zeros(len(texts), bool)
    scale = MICROSECONDS_PER_UNIT[time_format]
    integers = _cast_or_null(texts, pa.int64(), _INTEGER)
    is_integer = integers.is_valid().to_numpy(zero_copy_only=False)
    exact = integers.fill_null(0).to_numpy()
    decimals = _cast_or_null(texts, pa.float64(), _DECIMAL)
    unreadable = decimals.is_null().to_numpy(zero_copy_only=False) & ~is_integer
    with np.errstate(over="ignore"):
        scaled = np.rint(decimals.fill_null(0.0).to_numpy() * scale)
    limit = _MAX // scale
    fits = np.where(
        is_integer, (-limit <= exact) & (exact <= limit), np.abs(scaled) < 2.0**63
    )
    times = np.where(fits & is_integer, exact, 0) * scale
    use_decimal = fits & ~is_integer & ~unreadable
    times[use_decimal] = scaled[use_decimal].astype(np.int64)
    return times, unreadable, ~fits & ~unreadable


def _cast_or_null(texts: pa.Array, kind: pa.DataType, pattern: str) -> pa.Array:
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
