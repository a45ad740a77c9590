"""Byte ranges of files to blocks of whole lines.

A line belongs to the range that its first byte is in. Compressed files cannot be
entered in the middle: one worker streams each of them and cuts it into blocks.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adaptiverec.pipeline.parse_lines import Layout

__all__ = [
    "BOM",
    "DAMAGE",
    "ByteRange",
    "compression_of",
    "open_decompressed",
    "read_blocks",
]

BOM = b"\xef\xbb\xbf"
# What a damaged or truncated compressed file raises.
DAMAGE = (OSError, EOFError, zlib.error)
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2"}


@dataclasses.dataclass(frozen=True)
class ByteRange:
    """A part of a file.

    Attributes:
        file_number: The file's place in the list of input files.
        path: The file.
        start: Offset of the first byte; of the decompressed file.
        end: Offset behind the last byte, or None for the rest of a compressed file.
        layout: Where the file's columns are.
        first: Whether a line begins at ``start``.
        stored_bytes: How much of the file as stored this is, about.
    """

    file_number: int
    path: str
    start: int
    end: int | None
    layout: Layout
    first: bool
    stored_bytes: int


def compression_of(path: str) -> str | None:
    """Arrow's name of a file's compression, told by its extension."""
    for extension, name in _COMPRESSIONS.items():
        if path.lower().endswith(extension):
            return name
    return None


@contextmanager
def open_raw(path: str) -> Iterator[BinaryIO]:
    """Opens a file as it is stored."""
    file = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    try:
        yield file
    finally:
        file.close()


@contextmanager
def open_decompressed(path: str) -> Iterator[Any]:
    """Opens a file for reading its content; damage raises one of ``DAMAGE``."""
    with open_raw(path) as raw:
        name = compression_of(path)
        if name is None:
            yield raw
            return
        # Arrow's decompressor, unlike Beam's, notices a file that was cut off.
        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), name) as stream:
            yield _Lines(stream)


class _Lines:
    """Adds ``readline`` to an Arrow stream, for the few lines before the rows."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._ahead = b""

    def read(self, size: int) -> bytes:
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._stream.read(size - len(data))

    def readline(self, limit: int) -> bytes:
        line = self.read(limit)
        end = line.find(b"\n") + 1
        if end:
            line, self._ahead = line[:end], line[end:] + self._ahead
        return line


def read_blocks(byte_range: ByteRange, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Reads the lines of a byte range.

    Args:
        byte_range: What to read.
        block_bytes: About how much to read at a time from a compressed file.

    Yields:
        ``(offset, data)``: whole lines, and the offset of their first byte in the file.

    Raises:
        OSError, EOFError, zlib.error: The file cannot be read or decompressed.
    """
    if byte_range.end is None:
        yield from _stream(byte_range, block_bytes)
        return
    with open_raw(byte_range.path) as file:
        start = byte_range.start
        if not byte_range.first:
            # The line before may end exactly here; if not, its rest is not ours.
            file.seek(start - 1)
            start += len(file.readline()) - 1
        else:
            file.seek(start)
        if start >= byte_range.end:
            return
        data = file.read(byte_range.end - start)
        if not data.endswith(b"\n"):
            data += file.readline()
    if data:
        yield start, data


def _stream(byte_range: ByteRange, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    with open_decompressed(byte_range.path) as file:
        offset = len(file.read(byte_range.start))
        rest = [b""]
        while data := file.read(block_bytes):
            cut = data.rfind(b"\n") + 1
            rest.append(data[:cut])
            if not cut:
                # A line longer than a block.
                rest[-1] = data
                continue
            block = b"".join(rest)
            yield offset, block
            offset += len(block)
            rest = [data[cut:]]
        block = b"".join(rest)
        if block:
            yield offset, block
