"""The options of the job, checked once at the border."""

from __future__ import annotations

import codecs
import dataclasses
import math
from typing import Any

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.pipeline.option_checks import is_integer, is_number, require
from adaptiverec.pipeline.time_options import (
    check_split,
    check_time_window,
    check_zone,
)

__all__ = ["COLUMN_OPTIONS", "PrepareOptions"]

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
            require(
                given[name] in allowed,
                f"`{name}` must be one of {', '.join(allowed)}",
                given[name],
            )
        for name in _FLAGS:
            require(
                isinstance(given[name], bool),
                f"`{name}` must be true or false",
                given[name],
            )
        lists = {name: _check_list(name, given[name] or []) for name in _LISTS}
        lists["input"] = _check_list("input", given["input"])
        require(
            bool(lists["input"]),
            "`input` must be a list of one path or pattern or more",
            [],
        )
        _check_names(given)
        _check_columns({**given, **lists})
        _check_rules({**given, **lists})
        zone = check_zone(given)
        return cls(
            **{
                **given,
                **lists,
                **_check_text_form(given),
                **check_time_window(given, zone),
                **check_split(given, zone),
            }
        )


def _check_list(name: str, values: Any) -> tuple[str, ...]:
    require(
        isinstance(values, list | tuple)
        and all(isinstance(value, str) and value for value in values),
        f"`{name}` must be a list of texts that are not empty",
        values,
    )
    return tuple(values)


def _check_names(given: dict[str, Any]) -> None:
    for name in ("output", "user_column", "item_column"):
        require(
            isinstance(given[name], str) and given[name] != "",
            f"`{name}` must be a text that is not empty",
            given[name],
        )
    for name in (*COLUMN_OPTIONS[2:], "base_vocabulary"):
        require(
            given[name] is None or (isinstance(given[name], str) and given[name] != ""),
            f"`{name}` must be left out, or a text that is not empty",
            given[name],
        )
    require(
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
            require(
                column.isascii() and column.isdigit(),
                f"`{name}` must be a position counted from 0 where `header` is false",
                column,
            )
        columns = {name: str(int(column)) for name, column in columns.items()}
    require(
        len(set(columns.values())) == len(columns),
        f"{', '.join(f'`{name}`' for name in columns)} must be columns of their own",
        list(columns.values()),
    )
    extra = given["passthrough_columns"]
    require(
        len(set(extra)) == len(extra),
        "`passthrough_columns` must name each column once",
        list(extra),
    )


def _check_text_form(given: dict[str, Any]) -> dict[str, str]:
    delimiter = "\t" if given["delimiter"] == "\\t" else given["delimiter"]
    quote = given["quote"]
    require(
        isinstance(delimiter, str)
        and delimiter != ""
        and not set(delimiter) & set('"\r\n\0'),
        "`delimiter` must be one character or more, none of them a quote or a line break",
        given["delimiter"],
    )
    require(
        quote in ('"', "'", ""),
        "`quote` must be \", ' or empty, which means that no field is quoted",
        quote,
    )
    require(
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
        require(
            is_integer(given[name]) and given[name] >= 1,
            f"`{name}` must be an integer of at least 1",
            given[name],
        )
    most = given["max_user_interactions"]
    require(
        most is None or (is_integer(most) and most >= given["min_user_interactions"]),
        "`max_user_interactions` must be left out, or an integer of at least "
        "`min_user_interactions`",
        most,
    )
    shards = given["num_shards"]
    require(
        shards is None or (is_integer(shards) and 1 <= shards <= _MAX_SHARDS),
        f"`num_shards` must be an integer from 1 to {_MAX_SHARDS}",
        shards,
    )
    fraction = given["max_rejected_fraction"]
    require(
        is_number(fraction) and 0 <= fraction <= 1,
        "`max_rejected_fraction` must be from 0 to 1",
        fraction,
    )
    rating = given["min_rating"]
    require(
        rating is None or (is_number(rating) and math.isfinite(rating)),
        "`min_rating` must be a finite number",
        rating,
    )
    for name, needed in (
        ("min_rating", "rating_column"),
        ("event_types", "event_column"),
        ("start_time", "time_column"),
        ("end_time", "time_column"),
    ):
        require(
            given[name] in (None, ()) or given[needed] is not None,
            f"`{name}` needs `{needed}`",
            given[name],
        )
