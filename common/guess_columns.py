"""A guess at how a log is written, for the demonstration only; a job should be told."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from adaptiverec.common.errors import InvalidValueError, NotFoundError

__all__ = ["LogFormat", "guess_log_format"]

_NAMES = {
    "user": r"user|customer|visitor|reviewer|member|session|client",
    "item": r"item|product|article|movie|asin|sku|track|song|book|stock|video|content",
    "time": r"time|date|^ts$",
}
_EPOCHS = {10: "s", 9: "s", 13: "ms", 16: "us"}
_NUM_LINES = 50


class LogFormat(NamedTuple):
    """The options of `adaptiverec prepare` that say how a log is written."""

    user_column: str
    item_column: str
    time_column: str
    delimiter: str
    header: bool
    time_format: str


def guess_log_format(path: Path, **given: Any) -> LogFormat:
    """Looks at a log's first lines.

    With a header, columns are known by their names; without one, the time is the last
    column that looks like one and user and item are the first two others.

    Args:
        path: A delimited text file, plain or gzip'd.
        **given: Fields of the :class:`LogFormat` that are known and not to be guessed.

    Returns:
        The :class:`LogFormat`.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It cannot be guessed.
    """
    if not path.is_file():
        raise NotFoundError(f"The log must be a file. Received: {path}")
    lines = _first_lines(path)
    likeliest = max(",\t;|", key=(lines[0] if lines else "").count)
    # As `prepare` takes it, a tab may be written as a backslash and a t.
    delimiter = given.get("delimiter", likeliest).replace("\\t", "\t")
    rows = list(csv.reader(lines, delimiter=delimiter))
    # A bad row is no sample of how rows are written.
    rows = [row for row in rows if len(row) == len(rows[0])]
    if len(rows) < 2 or len(rows[0]) < 3:
        raise InvalidValueError(
            "The log must have rows of at least a user, an item and a time. Received: "
            f"{path}, which begins {lines[:1]}"
        )
    header = given.get("header", not any(_time_format(field) for field in rows[0]))
    names = rows[0] if header else [str(index) for index in range(len(rows[0]))]
    columns = _by_name(names) if header else _by_content(rows[0])
    for part in _NAMES:
        named = given.get(f"{part}_column")
        if named in names:
            columns[part] = names.index(named)
    missing = [part for part in _NAMES if part not in columns]
    if missing:
        raise InvalidValueError(
            f"No column looks like the {' or the '.join(missing)}; name the columns with "
            f"--user-column, --item-column and --time-column. Received: {names} in {path}"
        )
    time_format = given.get("time_format") or _time_format(rows[1][columns["time"]])
    if time_format is None:
        raise InvalidValueError(
            "Times must be seconds, milliseconds or microseconds since 1970, or ISO 8601; "
            f"give --time-format. Received: {rows[1][columns['time']]!r} in {path}"
        )
    guessed = LogFormat(
        user_column=names[columns["user"]],
        item_column=names[columns["item"]],
        time_column=names[columns["time"]],
        delimiter=delimiter,
        header=header,
        time_format=time_format,
    )
    return guessed._replace(**given)


def _first_lines(path: Path) -> list[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
            return [line for _, line in zip(range(_NUM_LINES), file, strict=False)]
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidValueError(
            "The log must be a file that can be read, and whole if it is compressed. "
            f"Received: {path} ({error})"
        ) from error


def _by_name(names: list[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    # The time first: "session_time" is one, though it looks like a user too.
    for part in ("time", "user", "item"):
        for index, name in enumerate(names):
            if index not in columns.values() and re.search(_NAMES[part], name, re.I):
                columns[part] = index
                break
    return columns


def _by_content(row: list[str]) -> dict[str, int]:
    times = [index for index, field in enumerate(row) if _time_format(field)]
    if not times:
        return {}
    others = [index for index in range(len(row)) if index != times[-1]]
    return {"time": times[-1], "user": others[0], "item": others[1]}


def _time_format(field: str) -> str | None:
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d.*)?)?", field):
        return "iso8601"
    digits = field.partition(".")[0]
    looks_like_one = digits.isdecimal() and not digits.startswith("0")
    return _EPOCHS.get(len(digits)) if looks_like_one else None
