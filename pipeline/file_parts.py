"""Parts of input files, each for one worker; and how files are opened."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adaptiverec.pipeline.transcode import TextEncoding

__all__ = [
    "DAMAGE",
    "CsvForm",
    "DamagedFileError",
    "FilePart",
    "Form",
    "TextForm",
    "open_decompressed",
    "open_raw",
]

# What a damaged or truncated compressed file raises.
DAMAGE = (OSError, EOFError, zlib.error)


class DamagedFileError(Exception):
    """A file is not what it must be from its beginning to its end."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How a file is written, as far as reading it needs.

    Attributes:
        format: ``csv``, ``jsonl``, ``parquet`` or ``avro``.
    """

    format: str

    @property
    def is_read_whole(self) -> bool:
        """Whether one worker must read the file from its beginning."""
        return self.format == "avro"


@dataclasses.dataclass(frozen=True)
class TextForm(Form):
    """How a file of lines is written.

    Attributes:
        compression: Arrow's name of it, or None.
        encoding: The encoding of its characters.
    """

    compression: str | None
    encoding: TextEncoding

    @property
    def is_read_whole(self) -> bool:
        """Whether lines cannot be found from the middle of the file."""
        return self.compression is not None or self.encoding.unit > 1


@dataclasses.dataclass(frozen=True)
class CsvForm(TextForm):
    """How a file of delimited text is written, and where its columns are.

    Attributes:
        delimiter: What is between fields.
        quote: What a field may be quoted with, or nothing.
        multiline: Whether quoted fields may hold line breaks.
        num_fields: Fields in each row.
        positions: For each field of a batch of interactions, the position of its
            column, from 0.
    """

    delimiter: str
    quote: str
    multiline: bool
    num_fields: int
    positions: tuple[tuple[str, int], ...]

    @property
    def is_read_whole(self) -> bool:
        """Whether rows cannot be found from the middle of the file."""
        return super().is_read_whole or self.multiline


@dataclasses.dataclass(frozen=True)
class FilePart:
    """A part of a file.

    Attributes:
        file_number: The file's place in the list of input files.
        path: The file.
        form: How it is written.
        start: Where the part begins: the offset of a byte, decompressed, in text; the
            number of a row group in Parquet.
        end: Where it ends; None for the end of the file.
        first: Whether a line begins at ``start``.
        stored_bytes: How much of the file as stored this is, about.
        first_row: The number of the part's first row in the file, in Parquet.
    """

    file_number: int
    path: str
    form: Form
    start: int
    end: int | None
    first: bool
    stored_bytes: int
    first_row: int = 0


@contextmanager
def open_raw(path: str) -> Iterator[BinaryIO]:
    """Opens a file as it is stored."""
    file = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    try:
        yield file
    finally:
        file.close()


@contextmanager
def open_decompressed(path: str, compression: str | None) -> Iterator[Any]:
    """Opens a file for reading its content; damage raises one of ``DAMAGE``."""
    with open_raw(path) as raw:
        if compression is None:
            yield raw
            return
        # Arrow's decompressor, unlike Beam's, notices a file that was cut off.
        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), compression) as stream:
            yield stream
