"""The options of the job, checked once at the border."""

from __future__ import annotations

import codecs
import dataclasses
import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adaptiverec.common.errors import InvalidValueError

__all__ = [
    "COLUMN_OPTIONS",
    "MICROSECONDS_PER_UNIT",
    "PrepareOptions",
    "format_time",
    "is_pattern",
]

MICROSECONDS_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
# The options that name one column each.
COLUMN_OPTIONS = (
    "user_column",
    "item_column",
    "time_column",
    "order_column",
    "rating_column",
    "event_column",
)
_CHOICES = {
    "format": ("auto", "csv", "jsonl", "parquet", "avro"),
    "compression": ("auto", "none", "gzip", "bzip2", "zstd"),
    "split": ("leave-one-out", "time", "none"),
    "repeats": ("keep", "collapse", "first", "last"),
    "output_compression": ("none", "gzip"),
}
_FLAGS = ("header", "multiline", "trim_ids", "lowercase_ids", "report")
_LISTS = ("passthrough_columns", "event_types", "beam_options")
# Far above any sensible number of files; partition numbers must fit 16 bits.
_MAX_SHARDS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS_PER_DAY = 86_400_000_000


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """What :func:`adaptiverec.pipeline.prepare` was asked for.

    Attributes are its arguments. Points in time are in microseconds since 1970-01-01
    UTC here, and ``validation_days`` and ``test_days`` in microseconds.
    """

    input: tuple[str, ...]
    output: str
    user_column: str
    item_column: str
    time_column: str | None
    order_column: str | None
    rating_column: str | None
    event_column: str | None
    passthrough_columns: tuple[str, ...]
    format: str
    compression: str
    encoding: str
    delimiter: str
    quote: str
    header: bool
    multiline: bool
    time_format: str
    time_zone: str
    trim_ids: bool
    lowercase_ids: bool
    event_types: tuple[str, ...]
    min_rating: float | None
    start_time: int | None
    end_time: int | None
    repeats: str
    max_user_interactions: int | None
    min_user_interactions: int
    min_item_interactions: int
    max_rejected_fraction: float
    base_vocabulary: str | None
    split: str
    validation_start: int | None
    test_start: int | None
    validation_days: int | None
    test_days: int | None
    num_shards: int | None
    output_compression: str
    report: bool
    beam_options: tuple[str, ...]

    @classmethod
    def checked(cls, **given: Any) -> PrepareOptions:
        """Checks the arguments of ``prepare``.

        Raises:
            InvalidValueError: One of them is outside its rule.
        """
        for name, allowed in _CHOICES.items():
            _require(
                given[name] in allowed,
                f"`{name}` must be one of {', '.join(allowed)}",
                given[name],
            )
        for name in _FLAGS:
            _require(
                isinstance(given[name], bool),
                f"`{name}` must be true or false",
                given[name],
            )
        lists = {name: _check_list(name, given[name] or []) for name in _LISTS}
        lists["input"] = _check_list("input", given["input"])
        _require(
            bool(lists["input"]),
            "`input` must be a list of one path or pattern or more",
            [],
        )
        _check_names(given)
        _check_columns({**given, **lists})
        _check_rules({**given, **lists})
        zone = _check_zone(given)
        return cls(
            **{
                **given,
                **lists,
                **_check_text_form(given),
                **_check_time_window(given, zone),
                **_check_split(given, zone),
            }
        )


def _check_list(name: str, values: Any) -> tuple[str, ...]:
    _require(
        isinstance(values, list | tuple)
        and all(isinstance(value, str) and value for value in values),
        f"`{name}` must be a list of texts that are not empty",
        values,
    )
    return tuple(values)


def _check_names(given: dict[str, Any]) -> None:
    for name in ("output", "user_column", "item_column"):
        _require(
            isinstance(given[name], str) and given[name] != "",
            f"`{name}` must be a text that is not empty",
            given[name],
        )
    for name in (*COLUMN_OPTIONS[2:], "base_vocabulary"):
        _require(
            given[name] is None or (isinstance(given[name], str) and given[name] != ""),
            f"`{name}` must be left out, or a text that is not empty",
            given[name],
        )
    _require(
        given["time_column"] is not None or given["order_column"] is not None,
        "`time_column` or `order_column` must say in which order a user's interactions "
        "happened",
        "neither",
    )


def _check_columns(given: dict[str, Any]) -> None:
    columns = {name: given[name] for name in COLUMN_OPTIONS if given[name] is not None}
    positions = given["format"] in ("auto", "csv") and not given["header"]
    if positions:
        for name, column in [
            *columns.items(),
            *(
                ("passthrough_columns", column)
                for column in given["passthrough_columns"]
            ),
        ]:
            _require(
                column.isascii() and column.isdigit(),
                f"`{name}` must be a position counted from 0 where `header` is false",
                column,
            )
        columns = {name: str(int(column)) for name, column in columns.items()}
    _require(
        len(set(columns.values())) == len(columns),
        f"{', '.join(f'`{name}`' for name in columns)} must be columns of their own",
        list(columns.values()),
    )
    extra = given["passthrough_columns"]
    _require(
        len(set(extra)) == len(extra),
        "`passthrough_columns` must name each column once",
        list(extra),
    )


def _check_text_form(given: dict[str, Any]) -> dict[str, str]:
    delimiter = "\t" if given["delimiter"] == "\\t" else given["delimiter"]
    quote = given["quote"]
    _require(
        isinstance(delimiter, str)
        and delimiter != ""
        and not set(delimiter) & set('"\r\n\0'),
        "`delimiter` must be one character or more, none of them a quote or a line break",
        given["delimiter"],
    )
    _require(
        quote in ('"', "'", ""),
        "`quote` must be \", ' or empty, which means that no field is quoted",
        quote,
    )
    _require(
        quote == "" or quote not in delimiter,
        "`delimiter` must not contain `quote`",
        delimiter,
    )
    try:
        encoding = codecs.lookup(given["encoding"]).name
        "a".encode(encoding)
    except (LookupError, TypeError):
        raise InvalidValueError(
            "`encoding` must be a text encoding that Python knows, such as utf-8 or "
            f"iso-8859-1. Received: {given['encoding']!r}"
        ) from None
    return {"delimiter": delimiter, "encoding": encoding}


def _check_rules(given: dict[str, Any]) -> None:
    for name in ("min_user_interactions", "min_item_interactions"):
        _require(
            _is_integer(given[name]) and given[name] >= 1,
            f"`{name}` must be an integer of at least 1",
            given[name],
        )
    most = given["max_user_interactions"]
    _require(
        most is None or (_is_integer(most) and most >= given["min_user_interactions"]),
        "`max_user_interactions` must be left out, or an integer of at least "
        "`min_user_interactions`",
        most,
    )
    shards = given["num_shards"]
    _require(
        shards is None or (_is_integer(shards) and 1 <= shards <= _MAX_SHARDS),
        f"`num_shards` must be an integer from 1 to {_MAX_SHARDS}",
        shards,
    )
    fraction = given["max_rejected_fraction"]
    _require(
        _is_number(fraction) and 0 <= fraction <= 1,
        "`max_rejected_fraction` must be from 0 to 1",
        fraction,
    )
    rating = given["min_rating"]
    _require(
        rating is None or (_is_number(rating) and math.isfinite(rating)),
        "`min_rating` must be a finite number",
        rating,
    )
    for name, needed in (
        ("min_rating", "rating_column"),
        ("event_types", "event_column"),
        ("start_time", "time_column"),
        ("end_time", "time_column"),
    ):
        _require(
            given[name] in (None, ()) or given[needed] is not None,
            f"`{name}` needs `{needed}`",
            given[name],
        )


def is_pattern(time_format: str) -> bool:
    """Whether a time format is a ``strptime`` pattern."""
    return "%" in time_format


def _check_zone(given: dict[str, Any]) -> tzinfo:
    time_format, name = given["time_format"], given["time_zone"]
    allowed = (*MICROSECONDS_PER_UNIT, "iso8601")
    _require(
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


def _check_time_window(given: dict[str, Any], zone: tzinfo) -> dict[str, int | None]:
    window = {
        name: None if given[name] is None else _microseconds(name, given[name], zone)
        for name in ("start_time", "end_time")
    }
    start, end = window.values()
    _require(
        start is None or end is None or start < end,
        "`start_time` must be before `end_time`",
        f"{given['start_time']} and {given['end_time']}",
    )
    return window


def _check_split(given: dict[str, Any], zone: tzinfo) -> dict[str, int | None]:
    pairs = (("validation_start", "test_start"), ("validation_days", "test_days"))
    present = [name for pair in pairs for name in pair if given[name] is not None]
    if given["split"] == "time":
        _require(
            given["time_column"] is not None, "`split=time` needs `time_column`", None
        )
    if not present:
        return {}
    _require(
        given["split"] == "time",
        f"`{present[0]}` needs `split` to be time",
        given["split"],
    )
    _require(
        tuple(present) in pairs,
        "A split by time takes `validation_start` and `test_start`, or "
        "`validation_days` and `test_days`, or none of the four",
        f"only {', '.join(present)}",
    )
    first, second = (given[name] for name in present)
    if present[0] == "validation_days":
        for name in present:
            _require(
                _is_number(given[name]) and 0 < given[name] < 1_000_000,
                f"`{name}` must be a number of days above 0",
                given[name],
            )
        return {name: round(given[name] * _MICROSECONDS_PER_DAY) for name in present}
    points = {name: _microseconds(name, given[name], zone) for name in present}
    _require(
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


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(met: bool, rule: str, received: Any) -> None:
    if not met:
        raise InvalidValueError(f"{rule}. Received: {received!r}")
