"""Writes the rows of a CSV log in another format: ``convert_log.py LOG.csv TARGET``.

The format goes by the target's extension: ``.csv.gz``, ``.csv.zst``, ``.dat`` (fields
apart by ``::``, no header), ``.jsonl``, ``.parquet``, ``.avro``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

AVRO_SCHEMA = {
    "type": "record",
    "name": "Interaction",
    "fields": [
        {"name": "user", "type": "string"},
        {"name": "item", "type": "string"},
        {"name": "time", "type": "long"},
    ],
}


def compressed(name: str) -> Callable[[Path, Path], None]:
    """A function that compresses a file."""

    def convert(source: Path, target: Path) -> None:
        with pa.CompressedOutputStream(str(target), name) as out:
            out.write(source.read_bytes())

    return convert


def to_delimited(source: Path, target: Path) -> None:
    """Fields apart by ``::``, as in MovieLens."""
    _write_lines(source, target, "", "::", "::", "")


def to_json_lines(source: Path, target: Path) -> None:
    """One JSON object a line; ids in these logs need no escapes."""
    _write_lines(source, target, '{"user": "', '", "item": "', '", "time": ', "}")


def _write_lines(source: Path, target: Path, *around: str) -> None:
    """Lines of three values with text before, between and after them."""
    before, first, second, after = around
    with target.open("wb") as file:
        for batch in pyarrow.csv.open_csv(source):
            user, item, time = batch.columns
            parts = [before, user, first, item, second, time.cast(pa.string())]
            lines = pc.binary_join_element_wise(*parts, after + "\n", "")
            file.write("".join(lines.to_pylist()).encode())


def to_parquet(source: Path, target: Path) -> None:
    """Row groups of a million rows, written as pyarrow does by default."""
    table = pyarrow.csv.read_csv(source)
    pyarrow.parquet.write_table(table, target, row_group_size=1 << 20)


def to_avro(source: Path, target: Path) -> None:
    """Deflated blocks, as Avro's tools write by default."""
    rows = (row for batch in pyarrow.csv.open_csv(source) for row in batch.to_pylist())
    with target.open("wb") as file:
        fastavro.writer(file, AVRO_SCHEMA, rows, codec="deflate")


CONVERSIONS: dict[str, Callable[[Path, Path], None]] = {
    ".csv.gz": compressed("gzip"),
    ".csv.zst": compressed("zstd"),
    ".dat": to_delimited,
    ".jsonl": to_json_lines,
    ".parquet": to_parquet,
    ".avro": to_avro,
}


def main() -> None:
    """Converts."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    CONVERSIONS["".join(target.suffixes)](source, target)


if __name__ == "__main__":
    main()
