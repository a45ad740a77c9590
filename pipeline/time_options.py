"""The options that are about time: formats, zones, the window, and the split."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.pipeline.option_checks import is_number, require

__all__ = [
    "MICROSECONDS_PER_UNIT",
    "check_split",
    "check_time_window",
    "check_zone",
    "format_time",
    "is_pattern",
]

MICROSECONDS_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_MICROSECONDS_PER_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_pattern(time_format: str) -> bool:
    """Whether a time format is a ``strptime`` pattern."""
    return "%" in time_format


def check_zone(given: dict[str, Any]) -> tzinfo:
    """Checks the format of times; gives the zone of those that name none.

    Raises:
        InvalidValueError: There is no such format, or no such zone.
    """
    time_format, name = given["time_format"], given["time_zone"]
    allowed = (*MICROSECONDS_PER_UNIT, "iso8601")
    require(
        isinstance(time_format, str)
        and (time_format in allowed or is_pattern(time_format)),
        f"`time_format` must be one of {', '.join(allowed)}, or a pattern such as "
        "%d/%m/%Y %H:%M",
        time_format,
    )
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise InvalidValueError(
            "`time_zone` must be the name of a time zone such as UTC or Europe/London. "
            f"Received: {name!r}"
        ) from None


def check_time_window(given: dict[str, Any], zone: tzinfo) -> dict[str, int | None]:
    """The window of interactions that count, in microseconds.

    Raises:
        InvalidValueError: A point is no time, or the window is empty.
    """
    window = {
        name: None if given[name] is None else _microseconds(name, given[name], zone)
        for name in ("start_time", "end_time")
    }
    start, end = window.values()
    require(
        start is None or end is None or start < end,
        "`start_time` must be before `end_time`",
        f"{given['start_time']} and {given['end_time']}",
    )
    return window


def check_split(given: dict[str, Any], zone: tzinfo) -> dict[str, int | None]:
    """The points or lengths of a split by time, in microseconds, if any are given.

    Raises:
        InvalidValueError: They do not fit together, or the split is another one.
    """
    pairs = (("validation_start", "test_start"), ("validation_days", "test_days"))
    present = [name for pair in pairs for name in pair if given[name] is not None]
    if given["split"] == "time":
        require(
            given["time_column"] is not None, "`split=time` needs `time_column`", None
        )
    if not present:
        return {}
    require(
        given["split"] == "time",
        f"`{present[0]}` needs `split` to be time",
        given["split"],
    )
    require(
        tuple(present) in pairs,
        "A split by time takes `validation_start` and `test_start`, or "
        "`validation_days` and `test_days`, or none of the four",
        f"only {', '.join(present)}",
    )
    first, second = (given[name] for name in present)
    if present[0] == "validation_days":
        for name in present:
            require(
                is_number(given[name]) and 0 < given[name] < 1_000_000,
                f"`{name}` must be a number of days above 0",
                given[name],
            )
        return {name: round(given[name] * _MICROSECONDS_PER_DAY) for name in present}
    points = {name: _microseconds(name, given[name], zone) for name in present}
    require(
        points["validation_start"] < points["test_start"],
        "`validation_start` must be before `test_start`",
        f"{first} and {second}",
    )
    return dict(points)


def _microseconds(name: str, text: Any, zone: tzinfo) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidValueError(
            f"`{name}` must be an ISO 8601 time such as 2024-05-31 or "
            f"2024-05-31T12:00:00Z. Received: {text!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(microseconds: int) -> str:
    """ISO 8601 in UTC of a time in microseconds since 1970-01-01 UTC.

    Beyond the years 1 to 9999, which ISO 8601 cannot write without agreement, the
    number of microseconds itself.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return f"{microseconds} us"
    return moment.isoformat().replace("+00:00", "Z")
