"""Parts of text files to blocks of whole lines, in UTF-8.

A line belongs to the part that its first byte is in. Some files cannot be entered in
the middle, such as compressed ones: one worker streams each of them and cuts it into
blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adaptiverec.pipeline.file_parts import (
    DAMAGE,
    DamagedFileError,
    FilePart,
    TextForm,
    open_decompressed,
    open_raw,
)
from adaptiverec.pipeline.transcode import TextBlock, transcode

__all__ = ["read_blocks"]


def read_blocks(
    part: FilePart, form: TextForm, block_bytes: int
) -> Iterator[TextBlock]:
    """Reads the lines of a part.

    Args:
        part: What to read.
        form: How its file is written.
        block_bytes: About how much to read at a time from a file that is streamed.

    Yields:
        Whole lines.

    Raises:
        DamagedFileError: The file cannot be decompressed to its end.
        OSError: The file cannot be read.
    """
    if part.end is None:
        try:
            for offset, data in _stream(part, form, block_bytes):
                yield transcode(data, offset, form.encoding)
        except DAMAGE as error:
            if form.compression is None:
                raise
            raise DamagedFileError(str(error)) from error
        return
    with open_raw(part.path) as file:
        start = part.start
        if not part.first:
            # The line before may end exactly here; if not, its rest is not ours.
            file.seek(start - 1)
            start += len(file.readline()) - 1
        else:
            file.seek(start)
        if start >= part.end:
            return
        data = file.read(part.end - start)
        if not data.endswith(b"\n"):
            data += file.readline()
    if data:
        yield transcode(data, start, form.encoding)


def _stream(
    part: FilePart, form: TextForm, block_bytes: int
) -> Iterator[tuple[int, bytes]]:
    with open_decompressed(part.path, form.compression) as file:
        offset = len(_read(file, part.start))
        rest = [b""]
        # Lines of characters of several bytes are found from whole characters only.
        size = -(-block_bytes // form.encoding.unit) * form.encoding.unit
        while data := _read(file, size):
            cut = form.encoding.last_line_end(data)
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


def _read(file: Any, size: int) -> bytes:
    """As many bytes as asked for, or all there are; a stream may give them in pieces."""
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
