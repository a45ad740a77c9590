"""The TFRecord framing of a record, on streams that TensorFlow cannot open by name."""

from __future__ import annotations

import struct
from typing import BinaryIO

import google_crc32c

from adaptiverec.pipeline.tfrecord import masked

__all__ = ["framed", "read_frame"]

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
# A damaged length would ask for exabytes.
_MAX_RECORD_BYTES = 1 << 31


def framed(record: bytes) -> bytes:
    """The record as it stands in a file."""
    length = _LENGTH.pack(len(record))
    return length + _masked_crc(length) + record + _masked_crc(record)


def read_frame(file: BinaryIO, *, check: bool = True) -> bytes | None:
    """Reads the next record.

    Args:
        file: A stream, at the beginning of a record.
        check: Whether to look at its checksums, and not only go past it.

    Returns:
        The record, or None where there is no whole one.
    """
    length = file.read(_LENGTH.size)
    length_crc = file.read(_CRC.size)
    if len(length_crc) < _CRC.size or (check and _masked_crc(length) != length_crc):
        return None
    (size,) = _LENGTH.unpack(length)
    if size > _MAX_RECORD_BYTES:
        return None
    record, crc = file.read(size), file.read(_CRC.size)
    if len(crc) < _CRC.size or (check and _masked_crc(record) != crc):
        return None
    return record


def _masked_crc(data: bytes) -> bytes:
    return _CRC.pack(masked(google_crc32c.value(data)))
