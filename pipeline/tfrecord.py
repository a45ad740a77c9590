"""The TFRecord framing of records.

Each record is its length as a little-endian uint64, the masked CRC-32C of these eight
bytes, the data, and the masked CRC-32C of the data.
"""

from __future__ import annotations

from typing import TypeVar

import google_crc32c
import numpy as np

__all__ = ["FOOTER_BYTES", "HEADER_BYTES", "Checksums", "fill_frames", "masked"]

# One, or uint64 of any shape.
Checksums = TypeVar("Checksums", int, np.ndarray)

_LENGTH_BYTES = 8
FOOTER_BYTES = 4
HEADER_BYTES = _LENGTH_BYTES + FOOTER_BYTES
_MASK_DELTA = 0xA282EAD8


def fill_frames(
    buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> memoryview:
    """Frames records that already lie in place, with room around each.

    Args:
        buffer: uint8, written to: for each record ``HEADER_BYTES`` of room, its data,
            and ``FOOTER_BYTES`` of room, and nothing else.
        starts: Where each record's data begins; integers of shape [num_records].
        lengths: The length of each record's data.

    Returns:
        The content of the file, which is the buffer itself.
    """
    if len(starts):
        # Many records are of the same length.
        distinct, which = np.unique(lengths, return_inverse=True)
        _put(buffer, starts - HEADER_BYTES, _headers(distinct)[which])
        ends = starts + lengths
        _put(buffer, ends, _masked_crcs(buffer, starts, ends))
    return buffer.data


def masked(crcs: Checksums) -> Checksums:
    """CRC-32Cs as the format has them, so that one over others is not a weak one."""
    return (((crcs >> 15) | (crcs << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _headers(lengths: np.ndarray) -> np.ndarray:
    """Lengths and their checksums, uint8 of shape [n, HEADER_BYTES]."""
    encoded = lengths.astype("<u8").view(np.uint8)
    bounds = np.arange(len(lengths) + 1) * _LENGTH_BYTES
    crcs = _masked_crcs(encoded, bounds[:-1], bounds[1:])
    return np.hstack([encoded.reshape(-1, _LENGTH_BYTES), crcs])


def _masked_crcs(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The checksum of each ``data[start:end]``, uint8 of shape [n, FOOTER_BYTES]."""
    # Taken of immutable bytes alone, hence the copy. All that can be done outside of
    # the loop is: the interpreter runs it for one thread at a time.
    crc32c, parts = google_crc32c.value, data.tobytes()
    bounds = zip(starts.tolist(), ends.tolist(), strict=True)
    crcs = np.array([crc32c(parts[start:end]) for start, end in bounds], np.uint64)
    return masked(crcs).astype("<u4").view(np.uint8).reshape(-1, FOOTER_BYTES)


def _put(buffer: np.ndarray, positions: np.ndarray, parts: np.ndarray) -> None:
    """Writes parts, uint8 of shape [n, size], at their positions."""
    buffer[positions[:, np.newaxis] + np.arange(parts.shape[1])] = parts
