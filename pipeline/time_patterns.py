"""Times in a pattern of ``strptime``, many at once.

Python's ``datetime.strptime`` says what a text means. It takes some microseconds a
text, so it is asked about distinct texts only; and about those of plain digits in the
width that their directive is written with, such as ``05/12/2010 08:26`` for
``%d/%m/%Y %H:%M``, not at all: there it can read only the one thing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.pipeline.strings import offsets_and_bytes
from adaptiverec.pipeline.time_zones import Clock

__all__ = ["check_pattern", "parse_times"]

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
# Directives of digits alone: width, least and greatest value.
_NUMERIC = {
    "Y": (4, 1, 9999),
    "m": (2, 1, 12),
    "d": (2, 1, 31),
    "H": (2, 0, 23),
    "M": (2, 0, 59),
    "S": (2, 0, 59),
    "f": (6, 0, 999_999),
}
_ZERO = ord("0")


def check_pattern(pattern: str) -> None:
    """Checks that Python can read by a pattern.

    Raises:
        InvalidValueError: It cannot.
    """
    example = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    try:
        datetime.strptime(example.strftime(pattern), pattern)
    except (ValueError, re.error) as error:
        raise InvalidValueError(
            "`time_format` must be a pattern that Python's strptime can read. Received: "
            f"{pattern!r} ({error})"
        ) from error


def parse_times(
    texts: pa.Array, pattern: str, clock: Clock
) -> tuple[np.ndarray, np.ndarray]:
    """Parses texts.

    Args:
        texts: A string array of n values, no nulls.
        pattern: As for ``datetime.strptime``.
        clock: Shows the times whose texts name no zone.

    Returns:
        ``(times, unreadable)``: int64 of shape [n] in microseconds since 1970-01-01
        UTC, 0 where there is none, and bool of shape [n].
    """
    local, slow = _parse_digits(texts, pattern)
    times = clock.to_utc(local)
    unreadable = np.zeros(len(texts), bool)
    if slow.any():
        rest = pc.dictionary_encode(texts.filter(pa.array(slow)))
        found = [_parse_one(text.as_py(), pattern, clock) for text in rest.dictionary]
        places = rest.indices.to_numpy()
        times[slow] = np.array([time or 0 for time in found], np.int64)[places]
        unreadable[slow] = np.array([time is None for time in found])[places]
    return times, unreadable


def _parse_one(text: str, pattern: str, clock: Clock) -> int | None:
    try:
        moment = datetime.strptime(text, pattern)
    except ValueError:
        return None
    shown = (moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    offset = moment.utcoffset()
    if offset is None:
        return int(clock.to_utc(np.array([shown]))[0])
    # Not through astimezone: near year 1 or 9999 that leaves the calendar.
    return shown - offset // _MICROSECOND


@lru_cache
def _fixed_form(pattern: str) -> tuple[list[tuple[str, int]], dict[int, int], int]:
    """Where the digits of each directive are, and the bytes between; [] if not fixed.

    Returns:
        ``(fields, literals, width)``.
    """
    fields: list[tuple[str, int]] = []
    literals: dict[int, int] = {}
    width = 0
    for directive, literal in re.findall(r"%(.)|([^%])", pattern, re.DOTALL):
        if literal:
            # Any white space in a pattern stands for any amount of it.
            if not literal.isascii():
                return [], {}, 0
            literals[width] = ord(literal)
            width += 1
        elif directive in _NUMERIC and directive not in dict(fields):
            fields.append((directive, width))
            width += _NUMERIC[directive][0]
        else:
            return [], {}, 0
    # Digits beside digits could be parted otherwise: %f and %Y may be.
    if "%f" in pattern and not re.search(r"[^\d%]%f\Z", pattern):
        return [], {}, 0
    return (fields, literals, width) if "Y" in dict(fields) else ([], {}, 0)


def _parse_digits(texts: pa.Array, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Local times of the texts of fixed form, and which texts are not."""
    fields, literals, width = _fixed_form(pattern)
    times = np.zeros(len(texts), np.int64)
    if not fields:
        return times, np.ones(len(texts), bool)
    offsets, data = offsets_and_bytes(texts)
    fast = np.diff(offsets) == width
    rows = np.flatnonzero(fast)
    table = data[offsets[:-1][rows].astype(np.int64)[:, None] + np.arange(width)]
    sound = np.ones(len(rows), bool)
    for column, byte in literals.items():
        sound &= table[:, column] == byte
    value: dict[str, np.ndarray] = {}
    for directive, column in fields:
        size, least, greatest = _NUMERIC[directive]
        number = np.zeros(len(rows), np.int64)
        for place in range(column, column + size):
            # Bytes below "0" wrap around to far above 9.
            digit = table[:, place] - np.uint8(_ZERO)
            sound &= digit <= 9
            number = number * 10 + digit
        sound &= (number >= least) & (number <= greatest)
        value[directive] = number
    year = value["Y"]
    month = value.get("m", np.ones_like(year))
    day = value.get("d", np.ones_like(year))
    sound &= day <= _days_in_month(year, month)
    fast[rows[~sound]] = False
    days = _days_since_epoch(year, month, day)
    zero = np.zeros_like(year)
    hour, minute, second, fraction = (value.get(name, zero) for name in "HMSf")
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    times[rows[sound]] = (seconds * 1_000_000 + fraction)[sound]
    return times, ~fast


def _days_in_month(year: np.ndarray, month: np.ndarray) -> np.ndarray:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    return days[np.clip(month, 0, 12)] + (leap & (month == 2))


def _days_since_epoch(
    year: np.ndarray, month: np.ndarray, day: np.ndarray
) -> np.ndarray:
    """Days from 1970-01-01, by the rules of the Gregorian calendar."""
    # Years that begin in March have their leap day at the end.
    year = year - (month <= 2)
    month = (month + 9) % 12
    century_days = 365 * year + year // 4 - year // 100 + year // 400
    return century_days + (153 * month + 2) // 5 + day - 1 - 719_468
