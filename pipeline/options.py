"""The options of the job, checked once at the border."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from adaptiverec.common.errors import InvalidValueError

__all__ = ["MICROSECONDS_PER_UNIT", "PrepareOptions", "format_time"]

MICROSECONDS_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_TIME_FORMATS = (*MICROSECONDS_PER_UNIT, "iso8601")
_SPLITS = ("leave-one-out", "time", "none")
# Far above any sensible number of files; partition numbers must fit 16 bits.
_MAX_SHARDS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """What :func:`adaptiverec.pipeline.prepare` was asked for.

    Attributes are its arguments; ``validation_start`` and ``test_start`` are in
    microseconds since 1970-01-01 UTC here.
    """

    input: tuple[str, ...]
    output: str
    user_column: str
    item_column: str
    time_column: str
    delimiter: str
    header: bool
    time_format: str
    min_user_interactions: int
    min_item_interactions: int
    split: str
    validation_start: int | None
    test_start: int | None
    num_shards: int | None
    beam_options: tuple[str, ...]

    @classmethod
    def checked(cls, **given: Any) -> PrepareOptions:
        """Checks the arguments of ``prepare``.

        Raises:
            InvalidValueError: One of them is outside its rule.
        """
        for name in ("user_column", "item_column", "time_column", "output"):
            _require(
                isinstance(given[name], str) and given[name] != "",
                f"`{name}` must be a text that is not empty",
                given[name],
            )
        _require(
            isinstance(given["input"], list | tuple)
            and len(given["input"]) > 0
            and all(isinstance(pattern, str) and pattern for pattern in given["input"]),
            "`input` must be a list of one path or pattern or more",
            given["input"],
        )
        beam_options = [] if given["beam_options"] is None else given["beam_options"]
        _require(
            isinstance(beam_options, list | tuple)
            and all(isinstance(flag, str) for flag in beam_options),
            "`beam_options` must be a list of flags such as --runner=FlinkRunner",
            beam_options,
        )
        _require(
            isinstance(given["header"], bool),
            "`header` must be true or false",
            given["header"],
        )
        _check_columns(given)
        for name, allowed in (("time_format", _TIME_FORMATS), ("split", _SPLITS)):
            _require(
                given[name] in allowed,
                f"`{name}` must be one of {', '.join(allowed)}",
                given[name],
            )
        for name in ("min_user_interactions", "min_item_interactions"):
            _require(
                _is_integer(given[name]) and given[name] >= 1,
                f"`{name}` must be an integer of at least 1",
                given[name],
            )
        shards = given["num_shards"]
        _require(
            shards is None or (_is_integer(shards) and 1 <= shards <= _MAX_SHARDS),
            f"`num_shards` must be an integer from 1 to {_MAX_SHARDS}",
            shards,
        )
        points = _check_split_points(given)
        return cls(
            **{
                **given,
                "input": tuple(given["input"]),
                "beam_options": tuple(beam_options),
                "delimiter": _check_delimiter(given["delimiter"]),
                "validation_start": points[0],
                "test_start": points[1],
            }
        )


def _check_columns(given: dict[str, Any]) -> None:
    columns = [given[name] for name in ("user_column", "item_column", "time_column")]
    if not given["header"]:
        for name in ("user_column", "item_column", "time_column"):
            _require(
                given[name].isascii() and given[name].isdigit(),
                f"`{name}` must be a position counted from 0 where `header` is false",
                given[name],
            )
        columns = [str(int(column)) for column in columns]
    _require(
        len(set(columns)) == 3,
        "`user_column`, `item_column` and `time_column` must be three columns",
        columns,
    )


def _check_delimiter(delimiter: Any) -> str:
    character = "\t" if delimiter == "\\t" else delimiter
    _require(
        isinstance(character, str)
        and len(character) == 1
        and character.isascii()
        and character not in '"\r\n\0',
        "`delimiter` must be one ASCII character, neither a quote nor a line break",
        delimiter,
    )
    return str(character)


def _check_split_points(given: dict[str, Any]) -> tuple[int | None, int | None]:
    names = ("validation_start", "test_start")
    texts = [given[name] for name in names]
    present = [name for name in names if given[name] is not None]
    if not present:
        return None, None
    _require(
        given["split"] == "time",
        f"`{present[0]}` needs `split` to be time",
        given["split"],
    )
    _require(
        len(present) == 2,
        "`validation_start` and `test_start` must be given together or not at all",
        f"only {present[0]}",
    )
    validation, test = (
        _microseconds(name, text) for name, text in zip(names, texts, strict=True)
    )
    _require(
        validation < test,
        "`validation_start` must be before `test_start`",
        " and ".join(map(str, texts)),
    )
    return validation, test


def _microseconds(name: str, text: Any) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidValueError(
            f"`{name}` must be an ISO 8601 time such as 2024-05-31 or "
            f"2024-05-31T12:00:00Z. Received: {text!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
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


def _require(met: bool, rule: str, received: Any) -> None:
    if not met:
        raise InvalidValueError(f"{rule}. Received: {received!r}")
