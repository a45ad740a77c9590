"""The TFRecord framing of records.

Each record is its length as a little-endian uint64, the masked CRC-32C of these eight
bytes, the data, and the masked CRC-32C of the data.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import google_crc32c
import numpy as np

__all__ = ["FOOTER_BYTES", "HEADER_BYTES", "fill_frames"]

HEADER_BYTES = 12
FOOTER_BYTES = 4
_MASK_DELTA = 0xA282EAD8


def _mask(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


@lru_cache(maxsize=65_536)
def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", _mask(google_crc32c.value(packed)))


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
    # The checksum is taken of immutable bytes alone, hence the copy.
    file, records = buffer.data, buffer.tobytes()
    crc32c, pack_into = google_crc32c.value, struct.pack_into
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        end = start + length
        file[start - HEADER_BYTES : start] = _header(length)
        pack_into("<I", file, end, _mask(crc32c(records[start:end])))
    return file
