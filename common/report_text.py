"""Numbers, times and hostile text, as the reports write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = [
    "compact",
    "in_bytes",
    "in_words",
    "moment",
    "percent",
    "plural",
    "seconds_of",
    "value",
    "visible",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds, and from how many of them a unit is easier to read than the next smaller.
_UNITS = (
    (31_557_600, "year", 2),
    (86_400, "day", 2),
    (3_600, "hour", 1),
    (60, "minute", 1),
    (1, "second", 0),
)
# No-break space: a number and its unit stay together.
_SPACE = "\u00a0"


def visible(text: str, most: int = 300) -> str:
    """The text with what cannot be seen written as escapes, cut to a length.

    The result is safe to encode and to show; markup in it is still markup, for the
    template to escape.

    Args:
        text: Any text, such as a rejected row.
        most: How many characters of it to show.
    """
    shown = "".join(_visible_character(character) for character in text[:most])
    if len(text) > most:
        shown += f" \u2026 ({len(text) - most:,} characters more)"
    return shown


def _visible_character(character: str) -> str:
    # Not printable: controls, directions, zero widths, surrogates, private and unassigned
    # characters, line breaks, and spaces other than the space.
    if character.isprintable():
        return character
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(character, f"\\u{code:04x}")


def value(anything: Any) -> str:
    """An option's or figure's value: text as it is, anything else as JSON has it."""
    if isinstance(anything, str):
        return visible(anything)
    if isinstance(anything, int) and not isinstance(anything, bool):
        return f"{anything:,}"
    return visible(json.dumps(anything, ensure_ascii=False))


def percent(part: int, whole: int) -> str:
    """A share of whole numbers; never 0 % or 100 % for what is not exactly that."""
    if not whole:
        return f"0{_SPACE}%"
    if part in (0, whole):
        return f"{100 * part // whole}{_SPACE}%"
    share = 100 * part / whole
    if share < 0.01:
        return f"<\u202f0.01{_SPACE}%"
    if share > 99.99:
        return f">\u202f99.99{_SPACE}%"
    decimals = 2 if share < 1 or share > 99 else 1
    return f"{share:.{decimals}f}{_SPACE}%"


def plural(number: int, noun: str) -> str:
    """So many of a thing: 1 user, 2 users."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def compact(number: float) -> str:
    """A number for an axis: 10, 2k, 5M, 1B, 1T."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def in_bytes(number: int) -> str:
    """A size in the unit that suits it."""
    for exponent, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "KB")):
        if number >= 1000**exponent:
            return f"{number / 1000**exponent:,.1f}{_SPACE}{unit}"
    return f"{number:,}{_SPACE}bytes"


def in_words(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    unit, name = next(
        (unit, name) for unit, name, least in _UNITS if seconds >= least * unit
    )
    number = seconds / unit
    # No decimal where it would be a zero.
    shown = f"{number:,.1f}".removesuffix(".0")
    return f"{shown}{_SPACE}{name}{'' if shown == '1' else 's'}"


def moment(seconds: int) -> str:
    """A time in UTC to the minute, from seconds since 1970-01-01 UTC."""
    try:
        shown = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds:,} s since 1970"
    return shown.strftime("%Y-%m-%d %H:%M").zfill(16)


def seconds_of(moment: str | None) -> int | None:
    """Seconds since 1970-01-01 UTC of a time as ``metadata.json`` has it."""
    if moment is None:
        return None
    if moment.endswith(" us"):
        return int(moment.removesuffix(" us")) // 1_000_000
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(seconds=1)
