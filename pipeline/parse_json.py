"""A block of JSON lines to a batch: all at once, or line by line if that fails.

pyarrow's JSON reader parses a clean block in one go, each wanted column as what it is
in the first line. Whatever it refuses, or takes otherwise than line by line, is read
again with the standard library, numbers as they are written. The two give the same
columns wherever both succeed.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json

from adaptiverec.pipeline import timestamps
from adaptiverec.pipeline.columns import wanted_columns
from adaptiverec.pipeline.file_parts import TextForm
from adaptiverec.pipeline.interactions import EVENT, ITEM, RATING, TIME, USER
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.records import Records, records_of
from adaptiverec.pipeline.reject import ParsedRows, Rejects, join_rows
from adaptiverec.pipeline.row_rules import (
    GOOD,
    NOT_IN_ENCODING,
    NOT_UTF8,
    REASONS,
    RowRules,
)
from adaptiverec.pipeline.time_options import MICROSECONDS_PER_UNIT
from adaptiverec.pipeline.transcode import TextBlock, readable

__all__ = ["JsonParser", "load_object"]

_OPEN, _CLOSE = b"{}"
# Few enough lines to read one by one, where they do not go at once; more are read in
# so many pieces.
_FEW_ROWS = 256
_PIECES = 16
_NOT_AN_OBJECT = REASONS.index("not a JSON object")
# A number that Arrow's reader knows and the standard library does not.
_INF = re.compile(rb"[:\[,\s]-?Inf\s*[,}\]]")


class _Number(str):
    """A number as it is written."""


def load_object(line: bytes) -> dict[str, Any] | None:
    """Reads a line, numbers as :class:`str`; None if it is no JSON object.

    Bytes that are not UTF-8 become lone surrogates in its texts.
    """
    try:
        value = json.loads(
            line.decode("utf-8", "surrogateescape"),
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=float,
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _Values(NamedTuple):
    """The values of a field: bytes or None, and where they stand for no text."""

    texts: list[bytes | None]
    not_scalar: list[bool]


class JsonParser:
    """Parses blocks of JSON lines.

    Args:
        options: What ``prepare`` was asked for.
        rules: What makes a row good.
    """

    def __init__(self, options: PrepareOptions, rules: RowRules) -> None:
        self._columns = wanted_columns(options)
        self._time_format = options.time_format
        self._rules = rules

    def parse(self, block: TextBlock, form: TextForm) -> ParsedRows:
        """Parses a block.

        Args:
            block: Whole lines; the last may lack its line break.
            form: How they are written.
        """
        data = block.data
        if data and not data.endswith(b"\n"):
            data += b"\n"
        records = records_of(data, None)
        batch = self._parse_at_once(data, records)
        if batch is not None:
            return ParsedRows(batch, Rejects(), block.offset)
        num_rows = len(records.starts)
        if num_rows <= _FEW_ROWS:
            return self._parse_lines(block, data, records, form)
        # What is wrong may be wrong with a single line: only its piece is read slowly.
        pieces, rest, begin = [], block, 0
        for start in records.starts[:: -(-num_rows // _PIECES)][1:].tolist():
            piece, rest = rest.cut(start - begin)
            begin = start
            pieces.append(self.parse(piece, form))
        return join_rows([*pieces, self.parse(rest, form)])

    def _parse_at_once(self, data: bytes, records: Records) -> pa.RecordBatch | None:
        if not len(records.starts) or not stand_alone(data, records):
            return None
        first = load_object(data[records.starts[0] : records.stops[0]])
        if first is None or (b"Inf" in data and _INF.search(data)):
            return None
        schema = self._schema(first)
        columns = _read(data, schema)
        if columns is None and schema.get(self._columns.get(TIME, "")) == pa.int64():
            # The first time may be whole and a later one not.
            columns = _read(data, {**schema, self._columns[TIME]: pa.float64()})
        if columns is None or len(columns[self._columns[USER]]) != len(records.starts):
            return None
        if b"-0" in data and any(
            pa.types.is_integer(column.type) and _has_zero(column)
            for column in columns.values()
        ):
            # As an id, minus zero is not zero.
            return None
        times = columns.get(self._columns.get(TIME, ""))
        if times is not None and not timestamps.is_exact(times, self._time_format):
            return None
        judged = self._rules.judge(
            {field: columns[column] for field, column in self._columns.items()}
        )
        return judged.batch if judged.reasons is None else None

    def _schema(self, first: dict[str, Any]) -> dict[str, pa.DataType]:
        """The types of the wanted columns, as the first row has them."""
        schema: dict[str, pa.DataType] = {}
        for field, column in self._columns.items():
            value = first.get(column)
            kind = pa.string()
            if isinstance(value, _Number):
                is_integer = value.lstrip("-").isdigit()
                in_units = self._time_format in MICROSECONDS_PER_UNIT
                if field == RATING or (field == TIME and in_units and not is_integer):
                    kind = pa.float64()
                else:
                    kind = pa.int64()
            # One that is wanted for two things must do for both.
            schema[column] = kind if schema.get(column, kind) == kind else pa.string()
        return schema

    def _parse_lines(
        self, block: TextBlock, data: bytes, records: Records, form: TextForm
    ) -> ParsedRows:
        num_rows = len(records.starts)
        reasons = np.full(num_rows, GOOD, np.int8)
        values = {field: _Values([], []) for field in self._columns}
        for row, (start, stop) in enumerate(
            zip(records.starts.tolist(), records.stops.tolist(), strict=True)
        ):
            line = data[start:stop]
            found = load_object(line)
            if found is None:
                reasons[row] = _NOT_AN_OBJECT
                continue
            for field, column in self._columns.items():
                text, is_scalar = _text_of(found.get(column), field)
                if not is_scalar and field.startswith("extra/"):
                    text, is_scalar = _json_of(line, column), True
                values[field].texts.append(text)
                values[field].not_scalar.append(not is_scalar)
        sound = np.flatnonzero(reasons == GOOD)
        judged = self._rules.judge(
            {
                field: pa.array(found.texts, pa.binary())
                for field, found in values.items()
            },
            not_text=NOT_UTF8 if form.encoding.is_utf8 else NOT_IN_ENCODING,
            not_scalar={
                field: np.array(found.not_scalar, bool)
                for field, found in values.items()
            },
        )
        if judged.reasons is not None:
            reasons[sound] = judged.reasons
        bad = np.flatnonzero(reasons != GOOD)
        rejects = Rejects(
            block.offsets_of(records.starts[bad]).tolist(),
            [REASONS[code] for code in reasons[bad]],
            [readable(data[records.starts[i] : records.stops[i]]) for i in bad],
        )
        return ParsedRows(judged.batch, rejects, block.offset)


def stand_alone(data: bytes, records: Records) -> bool:
    """Whether no object can be of several lines.

    A line that begins with a brace and ends with one either is whole objects, or its
    last object goes on behind the line break; but there no brace can follow. So where
    there are as many objects as lines, each line is one.
    """
    block = np.frombuffer(data, np.uint8)
    return bool(
        (block[records.starts] == _OPEN).all()
        and (block[records.stops - 1] == _CLOSE).all()
    )


def _read(data: bytes, schema: dict[str, pa.DataType]) -> dict[str, pa.Array] | None:
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(
                use_threads=False, block_size=len(data) + 1
            ),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(list(schema.items())),
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = {}
    for name, kind in schema.items():
        column = table.column(name).combine_chunks()
        # Arrow's reader does not look whether text is UTF-8.
        columns[name] = column.cast(pa.binary()) if kind == pa.string() else column
    return columns


def _has_zero(column: pa.Array) -> bool:
    return bool((column.fill_null(1).to_numpy() == 0).any())


def _text_of(value: Any, field: str) -> tuple[bytes | None, bool]:
    """A value as text, None for null; and whether it stands for text."""
    if value is None:
        return None, True
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass"), True
    if isinstance(value, float) and field not in (USER, ITEM):
        # Not a number, or infinite: there are no others.
        return str(value).encode(), True
    if isinstance(value, bool) and field == EVENT:
        return json.dumps(value).encode(), True
    return None, False


def _json_of(line: bytes, column: str) -> bytes:
    """A value that is neither text nor a number, as JSON."""
    value = json.loads(line.decode("utf-8", "surrogateescape"))[column]
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")
