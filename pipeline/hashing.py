"""A 64-bit hash of strings, vectorised and the same on every platform and process.

The hash orders users, and so spreads them over partitions and shards, and it orders
interactions of equal time; nothing relies on it being free of collisions. Python's own
``hash`` differs between processes, and a cryptographic one costs a call for each string.

A string is read as little-endian 64-bit words, the last one padded with zeros::

    state = mix(length * GOLDEN)
    for each word: state = mix((state ^ word) + GOLDEN)

where ``mix`` is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014). All
arithmetic is modulo 2**64.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline.strings import offsets_and_bytes

__all__ = ["combine_hashes", "hash_strings", "partition_of"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = 8


def _mix(state: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, in place."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def hash_strings(strings: pa.Array) -> np.ndarray:
    """Hashes every string by its UTF-8 bytes.

    Args:
        strings: A string array of n values without nulls.

    Returns:
        uint64 of shape [n].
    """
    offsets, data = offsets_and_bytes(strings)
    starts = offsets[:-1].astype(np.int64)
    lengths = np.diff(offsets).astype(np.int64)
    state = _mix(lengths.astype(np.uint64) * _GOLDEN)
    if not len(lengths) or not lengths.max():
        return state
    # Eight spare bytes let the last word of the last string be read like any other.
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(last - first + _WORD, np.uint8)
    padded[: last - first] = data[first:last]
    starts -= first
    # The word that begins at each byte, without copying.
    words = np.ndarray((len(padded) - _WORD + 1,), "<u8", padded, strides=(1,))
    rows: np.ndarray | slice = slice(None)
    position = 0
    while True:
        remaining = lengths[rows] - position
        longer = remaining > 0
        if not longer.all():
            rows = np.flatnonzero(lengths > position)
            remaining = lengths[rows] - position
        if not len(remaining):
            return state
        word = words[starts[rows] + position].astype(np.uint64)
        excess_bits = (_WORD - np.minimum(remaining, _WORD)).astype(np.uint64) * 8
        word &= np.uint64(0xFFFFFFFFFFFFFFFF) >> excess_bits
        state[rows] = _mix((state[rows] ^ word) + _GOLDEN)
        position += _WORD


def combine_hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hashes pairs of hashes, uint64 of shape [n] each, to uint64 of shape [n]."""
    return _mix(first * _GOLDEN + second)


def partition_of(hashes: np.ndarray, num_partitions: int) -> np.ndarray:
    """Spreads hashes evenly over partitions.

    Args:
        hashes: uint64 of shape [n].
        num_partitions: From 1 to 65,535.

    Returns:
        uint16 of shape [n]: small, since numpy sorts 16-bit integers by radix.
    """
    upper = hashes >> np.uint64(32)
    return ((upper * np.uint64(num_partitions)) >> np.uint64(32)).astype(np.uint16)
