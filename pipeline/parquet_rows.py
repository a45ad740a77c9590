"""Rows of Parquet files. A part is some row groups, which stand by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet

from adaptiverec.pipeline.columns import find_column
from adaptiverec.pipeline.file_parts import DamagedFileError, FilePart, Form, open_raw
from adaptiverec.pipeline.reject import ParsedRows
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.typed_columns import check_type, judge_rows

__all__ = ["FORM", "RowGroups", "inspect_parquet", "read_parquet"]

FORM = Form("parquet")

# For each row group, its bytes as stored and its number of rows.
RowGroups = list[tuple[int, int]]
_DAMAGE = (pa.ArrowException, OSError, EOFError)


@contextmanager
def _open(path: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    with open_raw(path) as raw:
        try:
            file = pyarrow.parquet.ParquetFile(
                pa.PythonFile(raw, "r"),
                # Nanoseconds do not reach beyond the year 2262.
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=True,
            )
        except _DAMAGE as error:
            raise DamagedFileError(str(error)) from error
        yield file


def inspect_parquet(path: str, wanted: dict[str, str]) -> RowGroups:
    """Checks that a file has the columns and that they can be used.

    Args:
        path: The file.
        wanted: Field to column.

    Returns:
        Its row groups.

    Raises:
        DamagedFileError: It is no whole Parquet file.
        NotFoundError: A column is not there.
        InvalidValueError: A column has a type that cannot be used.
    """
    with _open(path) as file:
        schema = file.schema_arrow
        for field, column in wanted.items():
            position = find_column(field, column, schema.names, path)
            check_type(field, column, schema.field(position).type, path)
        groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
        return [
            (
                sum(
                    group.column(n).total_compressed_size
                    for n in range(group.num_columns)
                ),
                group.num_rows,
            )
            for group in groups
        ]


def read_parquet(
    part: FilePart, wanted: dict[str, str], rules: RowRules, block_bytes: int
) -> Iterator[ParsedRows]:
    """Reads row groups.

    Args:
        part: Which.
        wanted: Field to column.
        rules: What makes a row good.
        block_bytes: About how much to take at a time.

    Raises:
        DamagedFileError: A row group cannot be read.
    """
    with _open(part.path) as file:
        end = file.num_row_groups if part.end is None else part.end
        groups = list(range(part.start, end))
        metadata = [file.metadata.row_group(group) for group in groups]
        num_rows = sum(group.num_rows for group in metadata)
        num_bytes = sum(group.total_byte_size for group in metadata)
        columns = list(dict.fromkeys(wanted.values()))
        first_row = part.first_row
        batches = file.iter_batches(
            # At least so many rows that fixed costs do not show.
            batch_size=max(block_bytes * num_rows // max(num_bytes, 1), 1024),
            row_groups=groups,
            columns=columns,
            use_threads=False,
        )
        while (batch := _next(batches)) is not None:
            table = {name: _as_bytes(batch.column(name)) for name in columns}
            yield judge_rows(table, wanted, rules, first_row)
            first_row += batch.num_rows


def _next(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except _DAMAGE as error:
        raise DamagedFileError(str(error)) from error


def _as_bytes(column: pa.Array) -> pa.Array:
    # The reader does not look whether text is UTF-8.
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type):
        return column.cast(pa.binary())
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        return column.cast(pa.large_binary())
    return column
