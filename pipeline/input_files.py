"""Which files to read, how they are written, and which parts to read them in.

All of it happens in the driver before the job starts, so that a wrong path or column
costs seconds.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import InvalidValueError, NotFoundError, StageError
from adaptiverec.common.files import is_remote
from adaptiverec.pipeline import avro_rows, parquet_rows
from adaptiverec.pipeline.columns import is_required, wanted_columns
from adaptiverec.pipeline.file_parts import DamagedFileError, FilePart, Form
from adaptiverec.pipeline.inspect_text import (
    TextFile,
    inspect_csv,
    inspect_json,
    missing_keys,
)
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.time_options import is_pattern
from adaptiverec.pipeline.time_patterns import check_pattern

__all__ = ["InputFile", "find_files", "split_into_ranges"]

# Arrow's names.
_COMPRESSIONS = {"none": None, "gzip": "gzip", "bzip2": "bz2", "zstd": "zstd"}
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd"}
_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".avro": "avro",
}


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        number: Its place in the sorted list of input files.
        path: Its path.
        num_bytes: Its size as stored.
        data_start: Byte offset, when decompressed, of the first row of a text file.
        form: How it is written; None where it holds no rows.
        row_groups: Bytes and rows of each row group, in Parquet.
    """

    number: int
    path: str
    num_bytes: int
    data_start: int
    form: Form | None
    row_groups: tuple[tuple[int, int], ...] = ()

    @property
    def compressed(self) -> bool:
        """Whether one worker must read it from its beginning."""
        return self.form is not None and self.form.is_read_whole


def find_files(options: PrepareOptions) -> list[InputFile]:
    """Matches the input patterns and looks into every file.

    Returns:
        The files, sorted by path; one that several patterns match is there once.

    Raises:
        InvalidValueError: A file, or the pattern of its times, is not what it can be
            read as.
        NotFoundError: A pattern matches no file, or a file lacks a column.
        StageError: A file is damaged at its beginning.
    """
    if options.time_column is not None and is_pattern(options.time_format):
        check_pattern(options.time_format)
    sizes: dict[str, int] = {}
    for pattern in options.input:
        sizes.update(_match(pattern))
    keys: list[frozenset[str]] = []
    files = [
        _inspect(number, path, sizes[path], options, keys)
        for number, path in enumerate(sorted(sizes))
    ]
    if any(keys):
        known = frozenset().union(*keys)
        for field, column in wanted_columns(options).items():
            # Not every object, nor every file, need have a value of these.
            if not is_required(field) and column not in known:
                raise missing_keys(field, column, known, "any of the files")
    return files


def _match(pattern: str) -> dict[str, int]:
    local = not is_remote(pattern)
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
    number: int,
    path: str,
    num_bytes: int,
    options: PrepareOptions,
    keys: list[frozenset[str]],
) -> InputFile:
    """Looks into a file, and notes the keys of its objects if it has any."""
    name, compression = _uncompressed_name(path, options.compression)
    kind = options.format
    if kind == "auto":
        kind = _FORMATS.get(Path(name).suffix, "csv")
        if kind in ("parquet", "avro") and compression is not None:
            raise InvalidValueError(
                "Parquet and Avro files are compressed within and must not be so as a "
                f"whole. Received: {path}"
            )
    if not num_bytes:
        return InputFile(number, path, 0, 0, None)
    wanted = wanted_columns(options)
    try:
        if kind == "parquet":
            groups = tuple(parquet_rows.inspect_parquet(path, wanted))
            form = parquet_rows.FORM
            return InputFile(number, path, num_bytes, 0, form, groups)
        if kind == "avro":
            avro_rows.inspect_avro(path, wanted)
            return InputFile(number, path, num_bytes, 0, avro_rows.FORM)
        inspect = inspect_json if kind == "jsonl" else inspect_csv
        found: TextFile = inspect(path, compression, options)
    except DamagedFileError as error:
        raise StageError(
            f"An input file must be readable to its end. Received: {path} ({error})"
        ) from error
    keys.append(found.keys)
    return InputFile(number, path, num_bytes, found.data_start, found.form)


def _uncompressed_name(path: str, compression: str) -> tuple[str, str | None]:
    """A file's name without what says that it is compressed, and how it is."""
    name = path.lower()
    by_name = None
    for extension, known in _COMPRESSED.items():
        if name.endswith(extension):
            name, by_name = name.removesuffix(extension), known
            break
    return name, by_name if compression == "auto" else _COMPRESSIONS[compression]


def split_into_ranges(file: InputFile, block_bytes: int) -> list[FilePart]:
    """The parts to read a file in, one where it must be read from its beginning."""
    form = file.form
    if form is None:
        return []

    def part(start: int, end: int | None, stored_bytes: int, row: int = 0) -> FilePart:
        return FilePart(
            file.number,
            file.path,
            form,
            start,
            end,
            first=start == file.data_start,
            stored_bytes=stored_bytes,
            first_row=row,
        )

    if form.format == "parquet":
        parts = []
        start = first_row = stored_bytes = num_rows = 0
        for group, (group_bytes, group_rows) in enumerate(file.row_groups):
            stored_bytes += group_bytes
            num_rows += group_rows
            if stored_bytes >= block_bytes or group == len(file.row_groups) - 1:
                parts.append(part(start, group + 1, stored_bytes, first_row))
                start, first_row = group + 1, first_row + num_rows
                stored_bytes = num_rows = 0
        return parts
    if file.compressed:
        return [part(file.data_start, None, file.num_bytes)]
    return [
        part(start, end, end - start)
        for start in range(file.data_start, file.num_bytes, block_bytes)
        for end in [min(start + block_bytes, file.num_bytes)]
    ]
