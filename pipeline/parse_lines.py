"""A block of lines parsed with care: every bad row is found and named.

A line is judged by itself, so a bad one never takes a neighbour along. What costs a
call for each value is done for suspects only; the rest is vectorised.
"""

from __future__ import annotations

import dataclasses
import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from adaptiverec.pipeline import timestamps
from adaptiverec.pipeline.strings import offsets_and_bytes

__all__ = [
    "INTERACTIONS",
    "REASONS",
    "Layout",
    "Rejects",
    "ends_inside_quotes",
    "has_bad_ids",
    "parse_lines",
    "read_columns",
]

# One row an interaction; times in microseconds since 1970-01-01 UTC.
INTERACTIONS = pa.schema(
    [("user", pa.string()), ("item", pa.string()), ("time", pa.int64())]
)

# Why a row is rejected. Where several hold, the first in this order is given.
REASONS = (
    "carriage return inside the row",
    "quote not closed in its line",
    "wrong number of fields",
    "text is not UTF-8",
    "user is missing",
    "item is missing",
    "time is missing",
    "control character in user",
    "control character in item",
    "time is not a number",
    "time is not a date",
    "time is out of range",
)
_GOOD = -1
_CODE = {reason: code for code, reason in enumerate(REASONS)}

_NEWLINE, _RETURN, _QUOTE = b'\n\r"'
# Control characters, and what else Unicode calls a line break.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the columns of a file are.

    Attributes:
        delimiter: The character between fields.
        num_fields: Fields in each row.
        user: Position of the user column, from 0.
        item: Position of the item column.
        time: Position of the time column.
    """

    delimiter: str
    num_fields: int
    user: int
    item: int
    time: int


@dataclasses.dataclass(frozen=True)
class Rejects:
    """Rejected rows, in the order of the block.

    Attributes:
        offsets: Byte offset of each line in the block.
        reasons: One of ``REASONS`` each.
        lines: The lines without their line breaks.
    """

    offsets: list[int] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    lines: list[bytes] = dataclasses.field(default_factory=list)


def read_columns(
    data: bytes, layout: Layout, id_type: pa.DataType, time_type: pa.DataType
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Reads the user, item and time columns with pyarrow's CSV reader.

    Raises:
        pyarrow.ArrowInvalid: A row has too few or many fields, or a value is not of its
            type.
    """
    names = [f"f{position}" for position in range(layout.num_fields)]
    wanted = [names[layout.user], names[layout.item], names[layout.time]]
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        # Threads are the runner's business. One block of the reader's is all of the
        # data: it must not cut where a line break is quoted.
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=names
        ),
        parse_options=pyarrow.csv.ParseOptions(delimiter=layout.delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict(zip(wanted, (id_type, id_type, time_type), strict=True)),
            null_values=[""],
            strings_can_be_null=False,
        ),
    )
    columns = [column.combine_chunks() for column in table.columns]
    return columns[0], columns[1], columns[2]


def has_bad_ids(ids: pa.Array) -> bool:
    """Whether an id is missing or has a control character.

    Args:
        ids: A string array without nulls.
    """
    offsets, data = offsets_and_bytes(ids)
    if not len(ids):
        return False
    if (offsets[1:] == offsets[:-1]).any():
        return True
    used = data[offsets[0] : offsets[-1]]
    # Printable ASCII without the space cannot be bad: one pass tells for most logs.
    if used.min() > 0x20 and used.max() < 0x7F:
        return False
    missing, control = _bad_ids(ids)
    return bool(missing.any() or control.any())


def _bad_ids(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    missing = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(ids)), 0)
    control = pc.match_substring_regex(ids, _CONTROL)
    return missing.to_numpy(zero_copy_only=False), control.to_numpy(
        zero_copy_only=False
    )


@lru_cache
def _open_quote_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    # Only a field that begins with a quote is quoted; "" inside it is a quote; what
    # follows the closing quote is taken as it is. Possessive: no backtracking.
    d = re.escape(delimiter)
    closed = rb'"(?:[^"]++|"")*+"[^%b]*+' % d
    plain = rb'[^"%b][^%b]*+' % (d, d)
    return re.compile(rb'(?:(?:%b|%b)?+%b)*+"(?:[^"]++|"")*+' % (closed, plain, d))


def ends_inside_quotes(line: bytes, delimiter: str) -> bool:
    """Whether a line's last field opens a quote and does not close it."""
    return _open_quote_pattern(delimiter.encode()).fullmatch(line) is not None


@lru_cache
def _field_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    d = re.escape(delimiter)
    return re.compile(rb'(?:"(?:[^"]++|"")*+")?+[^%b]*+(?:(%b)|\Z)' % (d, d))


def _count_fields(line: bytes, delimiter: str) -> int:
    """The fields of a line whose quotes are closed."""
    pattern = _field_pattern(delimiter.encode())
    position, fields = 0, 1
    while match := pattern.match(line, position):
        if match.group(1) is None:
            break
        fields += 1
        position = match.end()
    return fields


def parse_lines(
    data: bytes, layout: Layout, time_format: str
) -> tuple[pa.RecordBatch, Rejects]:
    """Parses lines, each by itself.

    Args:
        data: Lines; the last may lack its line break.
        layout: Where the columns are.
        time_format: As in ``prepare``.

    Returns:
        The good rows, of schema ``INTERACTIONS``, and the bad ones.
    """
    if data and not data.endswith(b"\n"):
        data += b"\n"
    block = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(block == _NEWLINE)
    starts = np.concatenate((np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1))
    stops = ends - ((ends > starts) & (block[ends - 1] == _RETURN))
    filled = stops > starts
    starts, stops, ends = starts[filled], stops[filled], ends[filled]

    reasons = _judge_shape(data, block, starts, stops, layout)
    sound = np.flatnonzero(reasons == _GOOD)
    columns = _read_sound(block, starts[sound], ends[sound] + 1, layout)
    reasons[sound], batch = _judge_values(*columns, time_format)

    bad = np.flatnonzero(reasons != _GOOD)
    rejects = Rejects(
        starts[bad].tolist(),
        [REASONS[code] for code in reasons[bad]],
        [data[starts[i] : stops[i]] for i in bad],
    )
    return batch, rejects


def _judge_shape(
    data: bytes,
    block: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    layout: Layout,
) -> np.ndarray:
    """The reason code of each line by its form alone: int8 of shape [lines]."""
    reasons = np.full(len(starts), _GOOD, np.int8)

    def counts(byte: int) -> np.ndarray:
        positions = np.flatnonzero(block == byte)
        return np.searchsorted(positions, stops) - np.searchsorted(positions, starts)

    fields = counts(ord(layout.delimiter)) + 1
    for line in np.flatnonzero(counts(_QUOTE)):
        text = data[starts[line] : stops[line]]
        if ends_inside_quotes(text, layout.delimiter):
            reasons[line] = _CODE["quote not closed in its line"]
        else:
            fields[line] = _count_fields(text, layout.delimiter)
    wrong = (reasons == _GOOD) & (fields != layout.num_fields)
    reasons[wrong] = _CODE["wrong number of fields"]
    reasons[counts(_RETURN) > 0] = _CODE["carriage return inside the row"]
    return reasons


def _read_sound(
    block: np.ndarray, starts: np.ndarray, nexts: np.ndarray, layout: Layout
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The columns, as bytes, of lines that have the right form."""
    if not len(starts):
        # The CSV reader refuses to read nothing.
        nothing = pa.array([], pa.binary())
        return nothing, nothing, nothing
    marks = np.zeros(len(block) + 1, np.int8)
    marks[starts] += 1
    marks[nexts] -= 1
    kept = block[np.cumsum(marks[:-1], dtype=np.int8).astype(bool)]
    columns = read_columns(kept.tobytes(), layout, pa.binary(), pa.binary())
    if len(columns[0]) != len(starts):
        raise RuntimeError(
            f"The CSV reader gave {len(columns[0])} rows for {len(starts)} lines"
        )
    return columns


def _judge_values(
    users: pa.Array, items: pa.Array, texts: pa.Array, time_format: str
) -> tuple[np.ndarray, pa.RecordBatch]:
    """The reason code of each row by its values, and the good rows."""
    users, bad_user = _decode(users)
    items, bad_item = _decode(items)
    texts, bad_text = _decode(texts)
    no_user, control_user = _bad_ids(users)
    no_item, control_item = _bad_ids(items)
    no_time, _ = _bad_ids(texts)
    times, unreadable, out_of_range = timestamps.from_text(texts, time_format)
    not_a = "date" if time_format == "iso8601" else "number"
    found = {
        "text is not UTF-8": bad_user | bad_item | bad_text,
        "user is missing": no_user,
        "item is missing": no_item,
        "time is missing": no_time,
        "control character in user": control_user,
        "control character in item": control_item,
        f"time is not a {not_a}": unreadable,
        "time is out of range": out_of_range,
    }
    reasons = np.full(len(users), _GOOD, np.int8)
    for reason in reversed(found):
        reasons[found[reason]] = _CODE[reason]
    batch = pa.record_batch([users, items, pa.array(times)], schema=INTERACTIONS)
    return reasons, batch.filter(pa.array(reasons == _GOOD))


def _decode(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Strings, "?" in place of what is not UTF-8, and where that was."""
    bad = np.zeros(len(values), bool)
    try:
        return values.cast(pa.string()), bad
    except pa.ArrowInvalid:
        texts = []
        for row, value in enumerate(values.to_pylist()):
            try:
                texts.append(value.decode())
            except UnicodeDecodeError:
                bad[row] = True
                texts.append("?")
        return pa.array(texts, pa.string()), bad
