"""What a text file tells before it is read: its encoding, and where its columns are."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.pipeline.columns import (
    find_column,
    is_required,
    option_of,
    wanted_columns,
)
from adaptiverec.pipeline.delimiters import with_stand_in
from adaptiverec.pipeline.file_parts import (
    DAMAGE,
    CsvForm,
    DamagedFileError,
    TextForm,
    open_decompressed,
)
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parse_json import load_object
from adaptiverec.pipeline.quoting import match_record, split_fields
from adaptiverec.pipeline.records import records_of
from adaptiverec.pipeline.transcode import (
    TextBlock,
    TextEncoding,
    encoding_of,
    readable,
    transcode,
)

__all__ = ["TextFile", "inspect_csv", "inspect_json", "missing_keys"]

_FIRST_LOOK = 1 << 16
# A header longer than this is no header.
_LONGEST_LINE = 1 << 20
_LONGEST_MARK = 4
# What files of other kinds begin with.
_MARKS = {
    rb"PAR1\x15": "a Parquet file; give it as `format`",
    rb"Obj\x01": "an Avro file; give it as `format`",
    rb"\x1f\x8b\x08": "a gzip file; give it as `compression`",
    rb"BZh[1-9]1AY&SY": "a bzip2 file; give it as `compression`",
    rb"\x28\xb5\x2f\xfd": "a zstd file; give it as `compression`",
}


class TextFile(NamedTuple):
    """A text file that was looked into.

    Attributes:
        data_start: Offset, decompressed, where its rows begin.
        form: How it is written; None where it holds no rows.
        keys: The keys of its first objects, of JSON lines.
    """

    data_start: int
    form: TextForm | None
    keys: frozenset[str] = frozenset()


class _Beginning(NamedTuple):
    """The first lines of a file, behind its byte order mark."""

    block: TextBlock
    encoding: TextEncoding
    is_all: bool

    def offset_of(self, position: int) -> int:
        """The offset in the file of the beginning of a line."""
        return int(self.block.offsets_of(np.array([position]))[0])


def inspect_csv(
    path: str, compression: str | None, options: PrepareOptions
) -> TextFile:
    """Finds the columns of a file of delimited text.

    Raises:
        DamagedFileError: It cannot be decompressed.
        NotFoundError: A column is not there.
        InvalidValueError: Its encoding cannot be read.
    """
    beginning = _read_beginning(path, compression, options)
    data = beginning.block.data
    if data and not data.endswith(b"\n"):
        data += b"\n"
    records = records_of(data, None)
    if not len(records.starts):
        return TextFile(beginning.offset_of(0), None)
    start, stop, end = (int(part[0]) for part in records[:3])
    if options.multiline and options.quote:
        stop, end = _first_record(data, start, options) or (stop, end)
    names = _split(data[start:stop], options)
    form = CsvForm(
        "csv",
        compression,
        beginning.encoding,
        options.delimiter,
        options.quote,
        options.multiline,
        len(names),
        tuple(
            (field, _position(field, column, names, options.header, path))
            for field, column in wanted_columns(options).items()
        ),
    )
    if not options.header:
        return TextFile(beginning.offset_of(start), form)
    is_empty = beginning.is_all and end >= len(beginning.block.data)
    return TextFile(
        beginning.offset_of(0 if is_empty else end), None if is_empty else form
    )


def inspect_json(
    path: str, compression: str | None, options: PrepareOptions
) -> TextFile:
    """Looks at the first objects of a file of JSON lines.

    Raises:
        DamagedFileError: It cannot be decompressed.
        NotFoundError: None of the objects has one of the columns that each row needs.
        InvalidValueError: Its encoding cannot be read, or it is one list.
    """
    beginning = _read_beginning(path, compression, options)
    data = beginning.block.data
    if data.lstrip()[:1] == b"[":
        raise InvalidValueError(
            "A file of JSON lines must have one object on each line. Received: "
            f"{path}, which begins with a list"
        )
    if data and not data.endswith(b"\n"):
        data += b"\n"
    records = records_of(data, None)
    form = TextForm("jsonl", compression, beginning.encoding)
    if not len(records.starts):
        return TextFile(beginning.offset_of(0), None)
    keys: dict[str, None] = {}
    for start, stop in zip(records.starts, records.stops, strict=True):
        keys.update(dict.fromkeys(load_object(data[start:stop]) or {}))
    for field, column in wanted_columns(options).items():
        # Where no line is an object, each of them is rejected instead.
        if keys and is_required(field) and column not in keys:
            raise missing_keys(field, column, keys, path)
    return TextFile(beginning.offset_of(0), form, frozenset(keys))


def missing_keys(
    field: str, column: str, keys: dict[str, None] | frozenset[str], where: str
) -> NotFoundError:
    """The error that no object has a column."""
    return NotFoundError(
        f"`{option_of(field)}` must name a key of the objects; the first of them have "
        f"{', '.join(map(repr, sorted(keys)))}. Received: {column!r}, which is not "
        f"there, for {where}"
    )


def _read_beginning(
    path: str, compression: str | None, options: PrepareOptions
) -> _Beginning:
    """Reads lines up to the first that is not blank."""
    try:
        with open_decompressed(path, compression) as file:
            data = file.read(_FIRST_LOOK)
            _check_mark(data, path)
            encoding = encoding_of(options.encoding, data[:_LONGEST_MARK])
            mark = encoding.byte_order_mark
            start = len(mark) if mark and data.startswith(mark) else 0
            is_all = False
            while True:
                more = file.read(_FIRST_LOOK)
                is_all = not more
                data += more
                if is_all or len(data) > _LONGEST_LINE:
                    break
                if encoding.last_line_end(data[start:]) and not options.multiline:
                    break
    except DAMAGE as error:
        if compression is None:
            raise
        raise DamagedFileError(str(error)) from error
    end = encoding.last_line_end(data[start:])
    lines = data[start:] if is_all else data[start : start + end]
    block = transcode(lines, start, encoding)
    if not is_all and not block.data.strip(b"\r\n"):
        raise NotFoundError(
            "The first line of an input file must be a row of at most "
            f"{_LONGEST_LINE} bytes. Received: {path}"
        )
    return _Beginning(block, encoding, is_all)


def _check_mark(data: bytes, path: str) -> None:
    for mark, what in _MARKS.items():
        if re.match(mark, data):
            raise InvalidValueError(
                f"An input file must be what it is read as. Received: {path}, which is "
                f"{what}"
            )


def _first_record(
    data: bytes, start: int, options: PrepareOptions
) -> tuple[int, int] | None:
    """Where a first row ends that may be of several lines, if it is well formed."""
    delimiter = options.delimiter.encode()
    replaced = with_stand_in(data[start:], delimiter)
    if replaced is None:
        return None
    text, stand_in = replaced
    found = match_record(text, 0, _LONGEST_LINE, stand_in, options.quote.encode())
    if found is None:
        return None
    # Delimiters are longer than what stands for them.
    start += text[: found[0]].count(stand_in) * (len(delimiter) - len(stand_in))
    return start + found[0], start + found[1]


def _split(line: bytes, options: PrepareOptions) -> list[str]:
    delimiter = options.delimiter.encode()
    replaced = with_stand_in(line, delimiter)
    if replaced is None:
        fields = line.split(delimiter)
    else:
        line, stand_in = replaced
        fields = split_fields(line, stand_in, options.quote.encode())
        fields = [field.replace(stand_in, delimiter) for field in fields]
    # A name that is not valid text is just not found.
    return [readable(field) for field in fields]


def _position(
    field: str, column: str, names: list[str], header: bool, path: str
) -> int:
    is_position = column.isascii() and column.isdigit()
    if header and (column in names or not is_position):
        return find_column(field, column, names, path)
    if int(column) < len(names):
        return int(column)
    received = f"{column!r}, which is no name either," if header else repr(column)
    columns = f"; the columns are {', '.join(map(repr, names))}" if header else ""
    raise NotFoundError(
        f"`{option_of(field)}` must be a position from 0 to {len(names) - 1}, since the "
        f"first line has {len(names)} fields{columns}. Received: {received} for {path}"
    )
