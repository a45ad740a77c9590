"""Rows of Avro files. One worker reads a file, block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fastavro
import pyarrow as pa

from adaptiverec.pipeline.columns import find_column
from adaptiverec.pipeline.file_parts import DamagedFileError, FilePart, Form, open_raw
from adaptiverec.pipeline.reject import ParsedRows
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.typed_columns import check_type, judge_rows

__all__ = ["FORM", "inspect_avro", "read_avro"]

FORM = Form("avro")

_PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "enum": pa.string(),
    "fixed": pa.binary(),
}
_LOGICAL = {
    "date": pa.date32(),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "timestamp-nanos": pa.timestamp("ns", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "local-timestamp-nanos": pa.timestamp("ns"),
}
# What stands for neither text nor a number nor a time.
_UNUSABLE = pa.struct([])


def inspect_avro(path: str, wanted: dict[str, str]) -> None:
    """Checks that a file has the columns and that they can be used.

    Args:
        path: The file.
        wanted: Field to column.

    Raises:
        DamagedFileError: It is no Avro file.
        NotFoundError: A column is not there.
        InvalidValueError: A column has a type that cannot be used.
    """
    with open_raw(path) as raw:
        schema = _reader(raw).writer_schema
    kinds = _types(schema)
    written = {field["name"]: json.dumps(field["type"]) for field in schema["fields"]}
    for field, column in wanted.items():
        find_column(field, column, list(kinds), path)
        check_type(field, column, kinds[column], path, written[column])


def read_avro(
    part: FilePart, wanted: dict[str, str], rules: RowRules, num_rows: int = 1 << 17
) -> Iterator[ParsedRows]:
    """Reads a file.

    Args:
        part: All of it.
        wanted: Field to column.
        rules: What makes a row good.
        num_rows: How many rows to take at a time, at least.

    Raises:
        DamagedFileError: It cannot be read to its end.
    """
    columns = list(dict.fromkeys(wanted.values()))
    values: dict[str, list[Any]] = {name: [] for name in columns}
    first_row = 0
    with open_raw(part.path) as raw:
        blocks = _reader(raw)
        kinds = _types(blocks.writer_schema)
        # fastavro would make objects of times, and fail on those that Python does not
        # know.
        schema = fastavro.parse_schema(_without_times(blocks.writer_schema))
        for rows in _records(blocks, schema, raw.tell(), part.stored_bytes):
            for name, column in values.items():
                column += [row[name] for row in rows]
            pending = len(values[columns[0]])
            if pending >= num_rows:
                yield judge_rows(_arrays(values, kinds), wanted, rules, first_row)
                first_row += pending
                values = {name: [] for name in columns}
        if values[columns[0]]:
            yield judge_rows(_arrays(values, kinds), wanted, rules, first_row)


def _reader(raw: Any) -> Any:
    try:
        reader = fastavro.block_reader(raw)
    except Exception as error:
        raise DamagedFileError(str(error)) from error
    if not isinstance(reader.writer_schema, dict) or "fields" not in (
        reader.writer_schema
    ):
        raise DamagedFileError("its values are no records")
    return reader


def _records(blocks: Any, schema: Any, end: int, num_bytes: int) -> Iterator[list[Any]]:
    """The records of each block, which begin at ``end`` of ``num_bytes`` bytes."""
    # What fastavro raises on bytes that are not what they should be has no class of its
    # own: a MemoryError, IndexError or zlib.error as well as a ValueError.
    try:
        for block in blocks:
            block.writer_schema = schema
            yield list(block)
            end = block.offset + block.size
    except Exception as error:
        raise DamagedFileError(str(error) or type(error).__name__) from error
    if end != num_bytes:
        # A few bytes of a block are taken for the end of the file.
        raise DamagedFileError(f"it ends within a block, after byte {end}")


def _types(schema: Any) -> dict[str, pa.DataType]:
    """The Arrow type that each field of a record is read as."""
    named: dict[str, pa.DataType] = {}
    return {field["name"]: _type(field["type"], named) for field in schema["fields"]}


def _type(schema: Any, named: dict[str, pa.DataType]) -> pa.DataType:
    if isinstance(schema, list):
        kinds = {_type(branch, named) for branch in schema} - {pa.null()}
        if len(kinds) < 2:
            return kinds.pop() if kinds else pa.null()
        if kinds == {pa.int64(), pa.float64()}:
            return pa.float64()
        return pa.string() if kinds == {pa.int64(), pa.string()} else _UNUSABLE
    if not isinstance(schema, dict):
        return named.get(schema, _PLAIN.get(schema, _UNUSABLE))
    if schema["type"] == "record":
        for field in schema["fields"]:
            # There may be types in it that fields behind it refer to.
            _type(field["type"], named)
    if "logicalType" in schema and schema["type"] != "string":
        # Any but times, such as decimals: their bytes mean nothing by themselves.
        return _LOGICAL.get(schema["logicalType"], _UNUSABLE)
    kind = _type(schema["type"], named)
    if "name" in schema:
        named[schema["name"]] = kind
    return kind


def _without_times(schema: Any) -> Any:
    """A schema with times as the numbers that they are written as."""
    if isinstance(schema, list):
        return [_without_times(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: _without_times(value)
        if key in ("type", "items", "values", "fields")
        else value
        for key, value in schema.items()
        if not key.startswith("__")
    }
    if plain.get("logicalType") in _LOGICAL:
        del plain["logicalType"]
    return plain


def _arrays(
    values: dict[str, list[Any]], kinds: dict[str, pa.DataType]
) -> dict[str, pa.Array]:
    arrays = {}
    for name, column in values.items():
        kind = kinds[name]
        if kind == pa.string():
            # A union of text and numbers.
            column = [None if value is None else str(value) for value in column]
        elif kind == pa.date32():
            arrays[name] = pa.array(column, pa.int32()).cast(kind)
            continue
        arrays[name] = pa.array(column, kind)
    return arrays
