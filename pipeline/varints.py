"""Protocol buffers' varints, all of an array at once."""

from __future__ import annotations

import numpy as np

__all__ = ["varint_bytes", "varint_sizes", "write_varints"]

_VARINT_BITS = 7
_WORD_BYTES = 8
# What a byte of a varint has above its seven bits where another byte follows.
_CONTINUES = 0x80


def varint_sizes(values: np.ndarray) -> np.ndarray:
    """Bytes of each value as a varint.

    Args:
        values: Integers of shape [n]; negative ones take ten bytes, as in protobuf.

    Returns:
        int64 of shape [n].
    """
    unsigned = values.astype(np.uint64)
    if not len(unsigned):
        return np.zeros(0, np.int64)
    least = len(varint_bytes(int(unsigned.min())))
    sizes = np.full(len(unsigned), least)
    # Only sizes that occur are worth a look at all values.
    for size in range(least, len(varint_bytes(int(unsigned.max())))):
        sizes += unsigned >= np.uint64(1 << size * _VARINT_BITS)
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
    unsigned = values.astype(np.uint64)
    long = sizes >= _WORD_BYTES
    if long.any():
        # Times in microseconds are: eight bytes at once are several times faster.
        rows = slice(None) if long.all() else long
        _write_words(buffer, positions[rows], unsigned[rows], sizes[rows])
        positions, unsigned, sizes = positions[~long], unsigned[~long], sizes[~long]
    _write_bytes(buffer, positions.copy(), unsigned, sizes - 1)


def _write_bytes(
    buffer: np.ndarray, positions: np.ndarray, rest: np.ndarray, more: np.ndarray
) -> None:
    """Writes values byte by byte, ``more`` bytes behind the first; uses them up."""
    while len(rest):
        continues = more > 0
        low = (rest & np.uint64(0x7F)).astype(np.uint8)
        buffer[positions] = low | (continues.astype(np.uint8) * np.uint8(_CONTINUES))
        if not continues.all():
            rest, positions, more = (
                rest[continues],
                positions[continues],
                more[continues],
            )
        rest = rest >> np.uint64(_VARINT_BITS)
        positions += 1
        more = more - 1


def _write_words(
    buffer: np.ndarray, positions: np.ndarray, values: np.ndarray, sizes: np.ndarray
) -> None:
    """Writes values of eight bytes and more."""
    more = sizes - _WORD_BYTES
    longer = more > 0
    # The word that begins at each byte, without copying.
    words = np.ndarray(
        (len(buffer) - _WORD_BYTES + 1,), "<u8", buffer.data, strides=(1,)
    )
    words[positions] = _spread(values) | (longer.astype(np.uint64) << np.uint64(63))
    if longer.any():
        rest = values[longer] >> np.uint64(_WORD_BYTES * _VARINT_BITS)
        _write_bytes(buffer, positions[longer] + _WORD_BYTES, rest, more[longer] - 1)


def _spread(values: np.ndarray) -> np.ndarray:
    """The lower 56 bits of each value, seven to a byte; all bytes but the last go on."""
    # Halves of 28 bits, then quarters of 14, then eighths: each step moves the upper
    # part of every group up by the bits that it will have to spare.
    word = values & np.uint64((1 << 56) - 1)
    for lower, upper, spare in (
        (0x0000_0000_0FFF_FFFF, 0x00FF_FFFF_F000_0000, 4),
        (0x0000_3FFF_0000_3FFF, 0x0FFF_C000_0FFF_C000, 2),
        (0x007F_007F_007F_007F, 0x3F80_3F80_3F80_3F80, 1),
    ):
        moved = (word & np.uint64(upper)) << np.uint64(spare)
        word &= np.uint64(lower)
        word |= moved
    return word | np.uint64(0x0080_8080_8080_8080)


def varint_bytes(value: int) -> bytes:
    """One number, not negative, as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | _CONTINUES)
        value >>= _VARINT_BITS
    encoded.append(value)
    return bytes(encoded)
