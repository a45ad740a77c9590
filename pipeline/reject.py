"""The rows set aside: one JSON line each, with the reason and where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, TypeAlias

import apache_beam as beam
import pyarrow as pa

from adaptiverec.pipeline.contract import REJECTED_DIRECTORY
from adaptiverec.pipeline.output_files import Places, create_whole

__all__ = [
    "Examples",
    "KeepExamples",
    "ParsedRows",
    "Rejects",
    "examples_of",
    "join_rows",
    "write_rejects",
]

_EXAMPLES_PER_REASON = 3
_LONGEST_EXAMPLE = 200

# By reason, dicts of file, offset and row.
Examples: TypeAlias = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Rejects:
    """Rejected rows, in the order of their file.

    Attributes:
        offsets: Where each is in its file: the offset of its first byte, decompressed,
            in text; the number of the row, from 0, in Parquet and Avro.
        reasons: Why, one of ``row_rules.REASONS`` each.
        rows: The rows as text, without line breaks at their ends.
    """

    offsets: list[int] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    rows: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class ParsedRows:
    """The rows of a block.

    Attributes:
        batch: The good rows, of schema ``schema_of(options)``.
        rejects: The bad ones.
        offset: Where the block is in its file.
    """

    batch: pa.RecordBatch
    rejects: Rejects
    offset: int

    @property
    def rows_read(self) -> int:
        """Good and bad rows together."""
        return self.batch.num_rows + len(self.rejects.rows)


def join_rows(pieces: list[ParsedRows]) -> ParsedRows:
    """The rows of pieces of a block, one after the other."""
    columns = zip(*(piece.batch.columns for piece in pieces), strict=True)
    batch = pa.record_batch(
        [pa.concat_arrays(column) for column in columns],
        schema=pieces[0].batch.schema,
    )
    rejects = Rejects(
        [offset for piece in pieces for offset in piece.rejects.offsets],
        [reason for piece in pieces for reason in piece.rejects.reasons],
        [row for piece in pieces for row in piece.rejects.rows],
    )
    return ParsedRows(batch, rejects, pieces[0].offset)


def write_rejects(
    places: Places, file_number: int, path: str, parsed: ParsedRows
) -> str:
    """Writes the rejected rows of a block; a second run writes the same file again.

    Args:
        places: Where the run works.
        file_number: The input file's place in the list of them.
        path: The input file.
        parsed: The rows of the block.

    Returns:
        The file's name in the directory of rejected rows.
    """
    name = f"{file_number:05d}-{parsed.offset:012d}.jsonl"
    rejects = parsed.rejects
    rows = zip(rejects.offsets, rejects.reasons, rejects.rows, strict=True)
    lines = [
        json.dumps(
            {"file": path, "offset": row_offset, "reason": reason, "row": row},
            ensure_ascii=False,
        )
        for row_offset, reason, row in rows
    ]
    with create_whole(places, REJECTED_DIRECTORY, name) as file:
        # A path may hold bytes that are not UTF-8; Python has them as surrogates.
        text = "".join(line + "\n" for line in lines)
        file.write(text.encode("utf-8", "backslashreplace"))
    return name


def examples_of(path: str, rejects: Rejects) -> Examples:
    """The first rejected rows of a block for each reason, long ones cut."""
    examples: Examples = {}
    for offset, reason, row in zip(
        rejects.offsets, rejects.reasons, rejects.rows, strict=True
    ):
        kept = examples.setdefault(reason, [])
        if len(kept) < _EXAMPLES_PER_REASON:
            if len(row) > _LONGEST_EXAMPLE:
                row = row[: _LONGEST_EXAMPLE - 3] + "..."
            kept.append({"file": path, "offset": offset, "row": row})
    return examples


class KeepExamples(beam.CombineFn):
    """Keeps for each reason the first rows by file and offset.

    Which they are does not depend on how the runner bundles its work.
    """

    def create_accumulator(self) -> Examples:
        """No examples."""
        return {}

    def add_input(self, accumulator: Examples, element: Examples) -> Examples:
        """Adds the examples of a block."""
        return self.merge_accumulators([accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[Examples]) -> Examples:
        """The first of all of them."""
        merged: Examples = {}
        for examples in accumulators:
            for reason, rows in examples.items():
                merged[reason] = sorted(
                    merged.get(reason, []) + rows,
                    key=lambda row: (row["file"], row["offset"]),
                )[:_EXAMPLES_PER_REASON]
        return merged

    def extract_output(self, accumulator: Examples) -> Examples:
        """The examples, by reason in alphabetical order."""
        return dict(sorted(accumulator.items()))
