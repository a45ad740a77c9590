"""A block of delimited text parsed with care: every bad row is found and named.

A row is judged by itself, so a bad one never takes a neighbour along. What costs a call
for each value is done for suspects only; the rest is vectorised.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv

from adaptiverec.pipeline.delimiters import put_back, with_stand_in
from adaptiverec.pipeline.file_parts import CsvForm
from adaptiverec.pipeline.quoting import (
    count_fields,
    ends_inside_quotes,
    match_record,
)
from adaptiverec.pipeline.records import Joins, Records, lines_with, records_of
from adaptiverec.pipeline.reject import ParsedRows, Rejects, join_rows
from adaptiverec.pipeline.row_rules import (
    GOOD,
    NOT_IN_ENCODING,
    NOT_UTF8,
    REASONS,
    RowRules,
)
from adaptiverec.pipeline.transcode import TextBlock, readable

__all__ = ["parse_lines", "read_columns"]

_CODE = {reason: code for code, reason in enumerate(REASONS)}
_RETURN = 13


def read_columns(
    data: bytes, form: CsvForm, delimiter: bytes, types: dict[int, pa.DataType]
) -> dict[int, pa.Array]:
    """Reads columns with pyarrow's CSV reader.

    Args:
        data: Rows.
        form: How they are written.
        delimiter: The one byte that is between fields in ``data``.
        types: The type of each column that is wanted, by its position.

    Returns:
        The columns by their positions.

    Raises:
        pyarrow.ArrowInvalid: A row has too few or many fields, or a value is not of its
            type.
    """
    names = [f"f{position}" for position in range(form.num_fields)]
    by_name = {names[position]: kind for position, kind in types.items()}
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        # Threads are the runner's business. One block of the reader's is all of the
        # data: it must not cut where a line break is quoted.
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=names
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter.decode(),
            quote_char=form.quote or False,
            newlines_in_values=form.multiline,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(by_name),
            column_types=by_name,
            null_values=[""],
            strings_can_be_null=False,
        ),
    )
    columns = {
        position: table.column(names[position]).combine_chunks() for position in types
    }
    if form.quote and form.quote.encode() in data:
        wanted = form.delimiter.encode()
        columns = {
            position: put_back(column, delimiter, wanted)
            for position, column in columns.items()
        }
    return columns


def parse_lines(
    block: TextBlock, form: CsvForm, rules: RowRules, joins: Joins | None = None
) -> ParsedRows:
    """Parses rows, each by itself.

    Args:
        block: Whole lines; the last may lack its line break.
        form: How they are written.
        rules: What makes a row good.
        joins: Which lines belong together; by default every line is a row.
    """
    written = block.data
    if written and not written.endswith(b"\n"):
        written += b"\n"
    replaced = with_stand_in(written, form.delimiter.encode())
    if replaced is None:
        return _parse_halves(block, form, rules)
    data, delimiter = replaced
    records = records_of(data, joins)
    bytes_of = np.frombuffer(data, np.uint8)
    reasons = _judge_shape(data, bytes_of, records, form, delimiter, joins)
    sound = np.flatnonzero(reasons == GOOD)
    columns = _read_sound(bytes_of, records, sound, form, delimiter)
    judged = rules.judge(
        {field: columns[position] for field, position in form.positions},
        not_text=NOT_UTF8 if form.encoding.is_utf8 else NOT_IN_ENCODING,
    )
    if judged.reasons is not None:
        reasons[sound] = judged.reasons
    # Rows are set aside as they are written, without stand-ins.
    original = records if data is written else records_of(written, joins)
    bad = np.flatnonzero(reasons != GOOD)
    rejects = Rejects(
        block.offsets_of(original.starts[bad]).tolist(),
        [REASONS[code] for code in reasons[bad]],
        [readable(written[original.starts[i] : original.stops[i]]) for i in bad],
    )
    return ParsedRows(judged.batch, rejects, block.offset)


def _parse_halves(block: TextBlock, form: CsvForm, rules: RowRules) -> ParsedRows:
    """Parses a block in which no byte is free to stand for the delimiter."""
    middle = block.data.rfind(b"\n", 0, len(block.data) // 2) + 1
    middle = middle or block.data.find(b"\n") + 1
    if middle in (0, len(block.data)):
        row = readable(block.data.rstrip(b"\r\n"))
        rejects = Rejects(
            [block.offset], ["control characters throughout the row"], [row]
        )
        no_rows = pa.array([], pa.binary())
        nothing = rules.judge({field: no_rows for field, _ in form.positions}).batch
        return ParsedRows(nothing, rejects, block.offset)
    return join_rows([parse_lines(half, form, rules) for half in block.cut(middle)])


def _judge_shape(
    data: bytes,
    bytes_of: np.ndarray,
    records: Records,
    form: CsvForm,
    delimiter: bytes,
    joins: Joins | None,
) -> np.ndarray:
    """The reason code of each row by its form alone: int8 of shape [rows]."""
    reasons = np.full(len(records.starts), GOOD, np.int8)
    fields = lines_with(bytes_of, delimiter[0], records) + 1
    returns = lines_with(bytes_of, _RETURN, records) > 0
    quote = form.quote.encode()
    if quote:
        unclosed = None if joins is None else joins.unclosed[records.lines]
        for row in np.flatnonzero(lines_with(bytes_of, quote[0], records)):
            text = data[records.starts[row] : records.stops[row]]
            if unclosed is None and ends_inside_quotes(text, delimiter, quote):
                reasons[row] = _CODE["quote not closed in its line"]
            elif unclosed is not None and unclosed[row]:
                reasons[row] = _CODE["quote not closed"]
            else:
                fields[row] = count_fields(text, delimiter, quote)
                if unclosed is not None and returns[row]:
                    # Within quotes, a lone one is a line break like any other.
                    ended = text + b"\n"
                    found = match_record(ended, 0, len(ended), delimiter, quote)
                    returns[row] = found is None
    wrong = (reasons == GOOD) & (fields != form.num_fields)
    reasons[wrong] = _CODE["wrong number of fields"]
    reasons[returns] = _CODE["carriage return inside the row"]
    return reasons


def _read_sound(
    bytes_of: np.ndarray,
    records: Records,
    sound: np.ndarray,
    form: CsvForm,
    delimiter: bytes,
) -> dict[int, pa.Array]:
    """The wanted columns, as bytes, of rows that have the right form."""
    types = {position: pa.binary() for _, position in form.positions}
    if not len(sound):
        # The CSV reader refuses to read nothing.
        return {position: pa.array([], kind) for position, kind in types.items()}
    marks = np.zeros(len(bytes_of) + 1, np.int8)
    marks[records.starts[sound]] += 1
    marks[records.nexts[sound]] -= 1
    kept = bytes_of[np.cumsum(marks[:-1], dtype=np.int8).astype(bool)]
    columns = read_columns(kept.tobytes(), form, delimiter, types)
    read = len(next(iter(columns.values())))
    if read != len(sound):
        raise RuntimeError(f"The CSV reader gave {read} rows for {len(sound)} lines")
    return columns
