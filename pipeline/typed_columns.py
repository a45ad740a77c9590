"""Columns that have types of their own, in Parquet and Avro: which may be what."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.pipeline.columns import option_of
from adaptiverec.pipeline.interactions import EVENT, ITEM, ORDER, RATING, TIME, USER
from adaptiverec.pipeline.reject import ParsedRows, Rejects
from adaptiverec.pipeline.row_rules import GOOD, REASONS, RowRules

__all__ = ["check_type", "judge_rows"]

_RULES = {
    USER: "text or integers, since ids are text",
    ITEM: "text or integers, since ids are text",
    TIME: "text, numbers, timestamps or dates",
    ORDER: "integers, or text",
    RATING: "numbers, or text",
    EVENT: "text or numbers",
}


def check_type(
    field: str, column: str, kind: pa.DataType, path: str, written: str = ""
) -> None:
    """Checks that a column can be used for a field.

    Args:
        field: What it is wanted for.
        column: Its name.
        kind: Its type.
        path: The file.
        written: The type as the file has it, if not as Arrow does.

    Raises:
        InvalidValueError: It cannot.
    """
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    text = (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )
    # A column of nulls only is as good as any: its rows are bad.
    if text or types.is_integer(kind) or types.is_null(kind):
        return
    number = types.is_floating(kind) or types.is_decimal(kind)
    moment = types.is_timestamp(kind) or types.is_date(kind)
    allowed = {
        TIME: number or moment,
        RATING: number,
        EVENT: number or types.is_boolean(kind),
    }
    scalar = number or moment or types.is_boolean(kind) or types.is_time(kind)
    if not allowed.get(field, scalar if field not in _RULES else False):
        rule = _RULES.get(field, "text, numbers, times or booleans")
        raise InvalidValueError(
            f"`{option_of(field)}` must be a column of {rule}. Received: {column!r}, "
            f"which is {written or kind} in {path}"
        )


def judge_rows(
    table: dict[str, pa.Array],
    wanted: dict[str, str],
    rules: RowRules,
    first_row: int,
) -> ParsedRows:
    """Judges rows and sets bad ones aside as JSON.

    Args:
        table: The columns that are wanted, by name, n values each.
        wanted: Field to column.
        rules: What makes a row good.
        first_row: The number of the first of the rows in its file.
    """
    judged = rules.judge({field: table[column] for field, column in wanted.items()})
    if judged.reasons is None:
        return ParsedRows(judged.batch, Rejects(), first_row)
    bad = np.flatnonzero(judged.reasons != GOOD)
    places = pa.array(bad)
    values = {name: column.take(places).to_pylist() for name, column in table.items()}
    rejects = Rejects(
        (bad + first_row).tolist(),
        [REASONS[code] for code in judged.reasons[bad]],
        [
            json.dumps(
                {name: column[row] for name, column in values.items()},
                ensure_ascii=False,
                default=_plain,
            )
            for row in range(len(bad))
        ],
    )
    return ParsedRows(judged.batch, rejects, first_row)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
