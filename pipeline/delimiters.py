"""One byte that stands for a delimiter of several.

Arrow's reader knows delimiters of one ASCII character. In their place any other is
replaced in a block of text by a control character that the block does not have, and put
back into the fields that hold it within quotes.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["put_back", "with_stand_in"]

# From those that text is least likely to have.
_STAND_INS = [
    bytes([byte]) for byte in (*range(0x1F, 0, -1), 0x7F) if byte not in b"\t\n\r"
]


def with_stand_in(data: bytes, delimiter: bytes) -> tuple[bytes, bytes] | None:
    """Makes delimiters one byte each.

    Args:
        data: A block of text.
        delimiter: What is between fields, in its encoding.

    Returns:
        ``(data, stand_in)``: the block and the byte that is between fields there; None
        if it has every control character already.
    """
    if len(delimiter) == 1:
        return data, delimiter
    for stand_in in _STAND_INS:
        if stand_in not in data:
            return data.replace(delimiter, stand_in), stand_in
    return None


def put_back(column: pa.Array, stand_in: bytes, delimiter: bytes) -> pa.Array:
    """Puts delimiters back into fields of text or bytes."""
    is_text = pa.types.is_string(column.type) or pa.types.is_binary(column.type)
    if stand_in == delimiter or not is_text:
        return column
    return pc.replace_substring(column, pattern=stand_in, replacement=delimiter)
