"""Arrow string arrays: as numpy sees them, and from what is not yet text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "as_mask",
    "as_text",
    "is_ascii",
    "map_distinct",
    "offsets_and_bytes",
    "trimmed_is_empty",
]

# A pyarrow array of strings or bytes has 32-bit offsets only as one of these.
_SMALL = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_MAX_ASCII = 0x7F


def offsets_and_bytes(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The buffers behind a string or binary array, without copying.

    Args:
        strings: An array of type string or binary with n values and no nulls.

    Returns:
        ``(offsets, data)``: value i is ``data[offsets[i]:offsets[i + 1]]``; int32 of
        shape [n + 1], and uint8.
    """
    _, offset_buffer, data_buffer = strings.buffers()
    if offset_buffer is None or len(strings) == 0:
        return np.zeros(len(strings) + 1, np.int32), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)
    offsets = offsets[strings.offset : strings.offset + len(strings) + 1]
    if data_buffer is None:
        return offsets, np.zeros(0, np.uint8)
    return offsets, np.frombuffer(data_buffer, np.uint8)


def is_ascii(strings: pa.Array) -> bool:
    """Whether a string array without nulls holds ASCII only."""
    offsets, data = offsets_and_bytes(strings)
    used = data[offsets[0] : offsets[-1]]
    return not len(used) or bool(used.max() <= _MAX_ASCII)


def as_mask(booleans: pa.Array) -> np.ndarray:
    """A boolean array as bool of shape [n]."""
    return booleans.to_numpy(zero_copy_only=False)


def map_distinct(strings: pa.Array, mapped: list[str]) -> pa.Array:
    """Puts other strings in place of the distinct values of a dictionary array.

    Args:
        strings: A dictionary array.
        mapped: What each value of its dictionary becomes.
    """
    return pa.array(mapped, pa.string()).take(strings.indices)


def as_text(values: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
    """Makes strings of bytes and of values of any other type.

    Args:
        values: n values; null stays null.

    Returns:
        ``(strings, bad)``: an array of type string, "?" in place of what is not UTF-8,
        and bool of shape [n] with where that was, or None if it was nowhere.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary())
    values = values.cast(_SMALL.get(values.type, values.type))
    try:
        return values.cast(pa.string()), None
    except pa.ArrowInvalid:
        if not pa.types.is_binary(values.type):
            raise
    bad = np.zeros(len(values), bool)
    texts: list[str | None] = []
    for row, value in enumerate(values.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            bad[row] = True
            texts.append("?")
    return pa.array(texts, pa.string()), bad


def trimmed_is_empty(strings: pa.Array) -> np.ndarray:
    """Where a string array has nothing but white space, bool of shape [n]."""
    lengths = pc.binary_length(pc.utf8_trim_whitespace(strings))
    return as_mask(pc.equal(lengths, 0))
