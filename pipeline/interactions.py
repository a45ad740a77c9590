"""What the job knows of one interaction: the columns of a batch of rows."""

from __future__ import annotations

import pyarrow as pa

from adaptiverec.pipeline.options import PrepareOptions

__all__ = [
    "EVENT",
    "ITEM",
    "ORDER",
    "RATING",
    "TIME",
    "USER",
    "extra_name",
    "schema_of",
]

USER, ITEM, TIME = "user", "item", "time"
ORDER, RATING, EVENT = "order", "rating", "event"


def extra_name(column: str) -> str:
    """The name in a batch of a column that is passed through."""
    return f"extra/{column}"


def schema_of(options: PrepareOptions) -> pa.Schema:
    """The schema of a batch of interactions, one row each, no nulls.

    ======================  ========  ==================================================
    field                   type      there
    ======================  ========  ==================================================
    ``user``, ``item``      string    always
    ``time``                int64     always: microseconds since 1970-01-01 UTC, 0
                                      without ``time_column``
    ``order``               int64     with ``order_column``
    ``rating``              double    with ``rating_column``
    ``event``               string    with ``event_column``
    ``extra/NAME``          string    for each of ``passthrough_columns``; empty where
                                      the row has no value
    ======================  ========  ==================================================
    """
    fields = [(USER, pa.string()), (ITEM, pa.string()), (TIME, pa.int64())]
    if options.order_column is not None:
        fields.append((ORDER, pa.int64()))
    if options.rating_column is not None:
        fields.append((RATING, pa.float64()))
    if options.event_column is not None:
        fields.append((EVENT, pa.string()))
    fields += [
        (extra_name(column), pa.string()) for column in options.passthrough_columns
    ]
    return pa.schema(fields)
