"""Raw item ids, one a line, in the order of their dense ids: line n is the dense id n."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.common.errors import ContractError

__all__ = [
    "Vocabulary",
    "grow",
    "join_rows",
    "parse_vocabulary",
    "split_lines",
    "vocabulary_lines",
]

_LINES_AT_ONCE = 1 << 20
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


class Vocabulary(NamedTuple):
    """A vocabulary, and where the items of the log are in it.

    Attributes:
        item_ids: String array [num_items]; item n of it has the dense id n + 1.
        dense_ids: int32 [num_counted]: the dense id of each item that was counted, 0
            for none.
        carried: Items of the base, whose dense ids are kept.
        new: Items that the base lacks.
        absent: Items of the base that no kept interaction has.
    """

    item_ids: pa.Array
    dense_ids: np.ndarray
    carried: int
    new: int
    absent: int


def grow(base: pa.Array, item_ids: pa.Array, item_counts: np.ndarray) -> Vocabulary:
    """Appends to a vocabulary what it lacks, the most frequent first.

    Args:
        base: String array [num_base], distinct; may be empty.
        item_ids: String array [num_counted], ascending by their bytes.
        item_counts: Kept interactions of each; int64 of shape [num_counted]. Items
            without any are not appended.

    Returns:
        The vocabulary.
    """
    positions = pc.index_in(item_ids, value_set=base).fill_null(-1).to_numpy()
    kept = item_counts > 0
    dense_ids = np.where(kept, positions + 1, 0).astype(np.int32)
    # The ids are in the order of their bytes, so a stable sort settles ties.
    order = np.argsort(-item_counts, kind="stable")
    new = order[kept[order] & (positions[order] < 0)]
    dense_ids[new] = np.arange(len(base) + 1, len(base) + len(new) + 1)
    present = int(np.count_nonzero(kept & (positions >= 0)))
    return Vocabulary(
        pa.concat_arrays([base, item_ids.take(pa.array(new))]),
        dense_ids,
        carried=len(base),
        new=len(new),
        absent=len(base) - present,
    )


def vocabulary_lines(item_ids: pa.Array) -> Iterator[bytes]:
    """The content of a vocabulary file, a part at a time."""
    for start in range(0, len(item_ids), _LINES_AT_ONCE):
        ids = item_ids.slice(start, _LINES_AT_ONCE).cast(pa.large_string())
        yield join_rows([ids])


def join_rows(columns: list[pa.Array]) -> bytes:
    """Columns of large_string to text: tabs between them, a line break behind a row."""
    tab, line_break, nothing = (
        pa.scalar(s, pa.large_string()) for s in ("\t", "\n", "")
    )
    rows = pc.binary_join_element_wise(*columns, tab)
    rows = pc.binary_join_element_wise(rows, line_break, nothing)
    _, offsets, data = rows.buffers()
    if not len(rows) or data is None:
        return b""
    begin, end = np.frombuffer(offsets, np.int64)[
        [rows.offset, rows.offset + len(rows)]
    ]
    return data.slice(int(begin), int(end - begin)).to_pybytes()


def split_lines(data: bytes) -> pa.Array:
    """The lines of a vocabulary file that is known to be sound, as a string array."""
    if not data:
        return pa.array([], pa.string())
    text = pa.array([data[:-1]], pa.large_binary()).cast(pa.large_string())
    return pc.split_pattern(text, "\n").values.cast(pa.string())


def parse_vocabulary(data: bytes, *, where: str) -> pa.Array:
    """The item ids of a vocabulary file.

    Args:
        data: The file's content.
        where: The file, for messages.

    Returns:
        A string array [num_items].

    Raises:
        ContractError: It is not UTF-8 with an id on each line, each once.
    """

    def fail(received: str) -> ContractError:
        return ContractError(
            "A vocabulary must be UTF-8 text with one item id a line, none of them "
            "empty, with a control character, or there twice, and end in a line break. "
            f"Received: {received} in {where}"
        )

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail(f"bytes that are not UTF-8 at offset {error.start}") from error
    if not text.endswith("\n"):
        last = text.rpartition("\n")[2]
        raise fail(f"{last[:80]!r} without a line break" if last else "nothing")
    ids = split_lines(data)
    bad = pc.or_(pc.equal(ids, ""), pc.match_substring_regex(ids, _CONTROL))
    if pc.any(bad).as_py():
        line = pc.index(bad, True).as_py()
        raise fail(f"{ids[line].as_py()[:80]!r} on line {line + 1}")
    found = ids.value_counts()
    if len(found) < len(ids):
        counts = found.field("counts")
        twice = found.field("values")[pc.index(pc.greater(counts, 1), True).as_py()]
        raise fail(f"{twice.as_py()[:80]!r} more than once")
    return ids
