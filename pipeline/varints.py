"""Protocol buffers' varints, all of an array at once."""

from __future__ import annotations

import numpy as np

__all__ = ["varint_bytes", "varint_sizes", "write_varints"]

_VARINT_BITS = 7


def varint_sizes(values: np.ndarray) -> np.ndarray:
    """Bytes of each value as a varint.

    Args:
        values: Integers of shape [n]; negative ones take ten bytes, as in protobuf.

    Returns:
        int64 of shape [n].
    """
    unsigned = values.astype(np.uint64)
    sizes = np.ones(len(unsigned), np.int64)
    if not len(unsigned):
        return sizes
    bits = _VARINT_BITS
    largest = int(unsigned.max())
    while bits < 64 and largest >> bits:
        sizes += unsigned >= np.uint64(1 << bits)
        bits += _VARINT_BITS
    return sizes


def write_varints(
    buffer: np.ndarray, positions: np.ndarray, values: np.ndarray, sizes: np.ndarray
) -> None:
    """Writes each value as a varint of its size at its position.

    Args:
        buffer: uint8, written to.
        positions: int64 of shape [n].
        values: Integers of shape [n].
        sizes: What :func:`varint_sizes` says, int64 of shape [n].
    """
    rest = values.astype(np.uint64)
    positions = positions.copy()
    more = sizes - 1
    while len(rest):
        continues = more > 0
        low = (rest & np.uint64(0x7F)).astype(np.uint8)
        buffer[positions] = low | (continues.astype(np.uint8) << 7)
        if not continues.all():
            rest, positions, more = (
                rest[continues],
                positions[continues],
                more[continues],
            )
        rest = rest >> np.uint64(_VARINT_BITS)
        positions += 1
        more = more - 1


def varint_bytes(value: int) -> bytes:
    """One number, not negative, as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= _VARINT_BITS
    encoded.append(value)
    return bytes(encoded)
