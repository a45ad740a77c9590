"""Which files to read, where their columns are, and which byte ranges to read them in.

All of it happens in the driver before the job starts, so that a wrong path or column
costs seconds.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import NotFoundError, StageError
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parse_lines import Layout
from adaptiverec.pipeline.read_blocks import (
    BOM,
    DAMAGE,
    ByteRange,
    compression_of,
    open_decompressed,
)

__all__ = ["InputFile", "find_files", "split_into_ranges"]

# A header longer than this is no header.
_MAX_FIRST_LINE = 1 << 20


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        number: Its place in the sorted list of input files.
        path: Its path.
        num_bytes: Its size as stored.
        data_start: Byte offset, when decompressed, of the first line after the header.
        layout: Where its columns are; None where it holds no rows.
    """

    number: int
    path: str
    num_bytes: int
    data_start: int
    layout: Layout | None

    @property
    def compressed(self) -> bool:
        """Whether it must be read from its beginning."""
        return compression_of(self.path) is not None


def find_files(options: PrepareOptions) -> list[InputFile]:
    """Matches the input patterns and reads the header of every file.

    Returns:
        The files, sorted by path; one that several patterns match is there once.

    Raises:
        NotFoundError: A pattern matches no file, or a file lacks a column.
        StageError: A compressed file cannot be decompressed.
    """
    sizes: dict[str, int] = {}
    for pattern in options.input:
        sizes.update(_match(pattern))
    return [
        _inspect(number, path, sizes[path], options)
        for number, path in enumerate(sorted(sizes))
    ]


def _match(pattern: str) -> dict[str, int]:
    local = "://" not in pattern
    if local and Path(pattern).is_file():
        # A name with brackets in it is a name before it is a pattern.
        return {pattern: Path(pattern).stat().st_size}
    try:
        (result,) = FileSystems.match([pattern])
        found = {entry.path: entry.size_in_bytes for entry in result.metadata_list}
    except (BeamIOError, ValueError, OSError) as error:
        raise NotFoundError(
            "`input` must name files that can be listed. Received: "
            f"{pattern!r} ({error})"
        ) from error
    if local:
        found = {path: size for path, size in found.items() if Path(path).is_file()}
    if not found:
        hint = ", which is a directory" if local and Path(pattern).is_dir() else ""
        raise NotFoundError(
            f"`input` must match at least one file. Received: {pattern!r}{hint}"
        )
    return found


def _inspect(
    number: int, path: str, num_bytes: int, options: PrepareOptions
) -> InputFile:
    try:
        line, start, end = _first_line(path)
    except DAMAGE as error:
        raise StageError(
            f"An input file must be readable to its end. Received: {path} ({error})"
        ) from error
    if not line:
        return InputFile(number, path, num_bytes, end, None)
    if len(line) > _MAX_FIRST_LINE:
        raise NotFoundError(
            "The first line of an input file must be a row of at most "
            f"{_MAX_FIRST_LINE} bytes. Received: {path}"
        )
    # Latin-1 cannot fail; a header name that is not UTF-8 is just not found.
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    (names,) = csv.reader([text], delimiter=options.delimiter)
    layout = Layout(
        options.delimiter,
        len(names),
        *(
            _position(option, getattr(options, option), names, options.header, path)
            for option in ("user_column", "item_column", "time_column")
        ),
    )
    return InputFile(number, path, num_bytes, end if options.header else start, layout)


def _first_line(path: str) -> tuple[bytes, int, int]:
    """The first line that is not blank, and the offsets of its start and its end."""
    start = 0
    with open_decompressed(path) as file:
        while raw := file.readline(_MAX_FIRST_LINE + 2):
            end = start + len(raw)
            if start == 0 and raw.startswith(BOM):
                raw = raw[len(BOM) :]
                start = len(BOM)
            line = raw.rstrip(b"\r\n")
            if line:
                return line, start, end
            start = end
    return b"", start, start


def _position(
    option: str, column: str, names: list[str], header: bool, path: str
) -> int:
    if not header:
        if int(column) < len(names):
            return int(column)
        raise NotFoundError(
            f"`{option}` must be a position from 0 to {len(names) - 1}, since the "
            f"first line has {len(names)} fields. Received: {column!r} for {path}"
        )
    if names.count(column) == 1:
        return names.index(column)
    problem = "is there more than once" if column in names else "is not there"
    raise NotFoundError(
        f"`{option}` must name one column of every file; the columns are "
        f"{', '.join(map(repr, names))}. Received: {column!r}, which {problem}, for "
        f"{path}"
    )


def split_into_ranges(file: InputFile, block_bytes: int) -> list[ByteRange]:
    """The byte ranges to read a file in, one for the whole of a compressed file."""
    layout = file.layout
    if layout is None:
        return []

    def byte_range(start: int, end: int | None, stored_bytes: int) -> ByteRange:
        return ByteRange(
            file.number,
            file.path,
            start,
            end,
            layout,
            first=start == file.data_start,
            stored_bytes=stored_bytes,
        )

    if file.compressed:
        return [byte_range(file.data_start, None, file.num_bytes)]
    return [
        byte_range(start, end, end - start)
        for start in range(file.data_start, file.num_bytes, block_bytes)
        for end in [min(start + block_bytes, file.num_bytes)]
    ]
