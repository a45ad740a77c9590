"""Which columns of a file are wanted, and what for."""

from __future__ import annotations

from adaptiverec.common.errors import NotFoundError
from adaptiverec.pipeline.interactions import (
    EVENT,
    ITEM,
    ORDER,
    RATING,
    TIME,
    USER,
    extra_name,
)
from adaptiverec.pipeline.options import PrepareOptions

__all__ = ["find_column", "is_required", "option_of", "wanted_columns"]

_OPTIONS = {
    USER: "user_column",
    ITEM: "item_column",
    TIME: "time_column",
    ORDER: "order_column",
    RATING: "rating_column",
    EVENT: "event_column",
}


def wanted_columns(options: PrepareOptions) -> dict[str, str]:
    """The columns that the options name, by the field of the batch that they fill.

    Returns:
        Field to column, in the order of ``schema_of(options)``; no ``time`` without
        ``time_column``.
    """
    named = {field: getattr(options, option) for field, option in _OPTIONS.items()}
    return {
        **{field: column for field, column in named.items() if column is not None},
        **{extra_name(column): column for column in options.passthrough_columns},
    }


def option_of(field: str) -> str:
    """The option that names the column of a field."""
    return _OPTIONS.get(field, "passthrough_columns")


def is_required(field: str) -> bool:
    """Whether a row without a value of the field is rejected."""
    return field in _OPTIONS and field != EVENT


def find_column(field: str, column: str, names: list[str], path: str) -> int:
    """The position of a column in a file.

    Args:
        field: What it is wanted for.
        column: Its name.
        names: The names of the file's columns.
        path: The file.

    Raises:
        NotFoundError: None of the names, or more than one, is the column's.
    """
    if names.count(column) == 1:
        return names.index(column)
    problem = "is there more than once" if column in names else "is not there"
    raise NotFoundError(
        f"`{option_of(field)}` must name one column of every file; the columns are "
        f"{', '.join(map(repr, names))}. Received: {column!r}, which {problem}, for "
        f"{path}"
    )
