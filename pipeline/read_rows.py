"""The first step of the job: parts of files to rows, scattered to their partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from adaptiverec.pipeline import hashing, progress_hook
from adaptiverec.pipeline.avro_rows import read_avro
from adaptiverec.pipeline.columns import wanted_columns
from adaptiverec.pipeline.file_parts import (
    CsvForm,
    DamagedFileError,
    FilePart,
    TextForm,
)
from adaptiverec.pipeline.interactions import USER
from adaptiverec.pipeline.job import EXAMPLES, TALLY, Job
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parquet_rows import read_parquet
from adaptiverec.pipeline.parse_block import BlockParser
from adaptiverec.pipeline.parse_json import JsonParser
from adaptiverec.pipeline.read_blocks import read_blocks
from adaptiverec.pipeline.records import cut_at_records
from adaptiverec.pipeline.reject import ParsedRows, examples_of, write_rejects
from adaptiverec.pipeline.row_filter import RowFilter
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.shuffle import ROWS, Handle

__all__ = ["PartReader", "ReadRows"]

_READING = "Reading"


class PartReader:
    """Reads parts of files of any format.

    Args:
        options: What ``prepare`` was asked for.
        block_bytes: About how much of a file to take at a time.
    """

    def __init__(self, options: PrepareOptions, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._wanted = wanted_columns(options)
        self._rules = RowRules(options)
        # These remember what worked last.
        self._csv = BlockParser(options, self._rules)
        self._json = JsonParser(options, self._rules)

    def read(self, part: FilePart) -> Iterator[ParsedRows]:
        """Reads a part, block by block.

        Raises:
            DamagedFileError: The file cannot be read to its end.
        """
        form = part.form
        if form.format == "parquet":
            yield from read_parquet(part, self._wanted, self._rules, self._block_bytes)
        elif form.format == "avro":
            yield from read_avro(part, self._wanted, self._rules)
        elif isinstance(form, TextForm):
            blocks = read_blocks(part, form, self._block_bytes)
            if not isinstance(form, CsvForm):
                for block in blocks:
                    yield self._json.parse(block, form)
            elif form.multiline:
                for block, joins in cut_at_records(blocks, form):
                    yield self._csv.parse(block, form, joins)
            else:
                for block in blocks:
                    yield self._csv.parse(block, form)


class ReadRows(beam.DoFn):
    """A part of a file to the partitions of its rows.

    The main output is pairs of partition number and handle of a batch of interactions
    of schema ``schema_of(options)``. Side outputs are a tally, and examples of rejected
    rows for :class:`adaptiverec.pipeline.reject.KeepExamples`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        """Makes what reads and what filters, once for many parts."""
        self._reader = PartReader(self._job.options, self._job.block_bytes)
        self._filter = RowFilter(self._job.options)

    def process(self, part: FilePart) -> Iterator[Any]:
        """Reads, sets bad rows aside, filters and scatters the good ones."""
        tally: Counter[str] = Counter()
        try:
            for parsed in self._reader.read(part):
                tally["rows_read"] += parsed.rows_read
                if parsed.rejects.rows:
                    write_rejects(self._job.places, part.file_number, part.path, parsed)
                    tally.update(f"rejected: {why}" for why in parsed.rejects.reasons)
                    examples = examples_of(part.path, parsed.rejects)
                    yield TaggedOutput(EXAMPLES, examples)
                batch, filtered = self._filter.apply(parsed.batch)
                tally.update(
                    {f"filtered: {rule}": count for rule, count in filtered.items()}
                )
                yield from self._scatter(batch)
        except DamagedFileError as error:
            # The driver turns it into an error of the user's. Raised here, a runner
            # would wrap it in a traceback of its own.
            tally[f"damaged: {part.path} ({error})"] += 1
        yield TaggedOutput(TALLY, dict(tally))
        progress_hook.advance(_READING, part.stored_bytes)

    def _scatter(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Handle]]:
        job = self._job
        if not batch.num_rows:
            return
        if job.num_partitions == 1:
            numbers, parts = [0], [batch]
        else:
            hashes = hashing.hash_strings(batch.column(USER))
            partitions = hashing.partition_of(hashes, job.num_partitions)
            order = np.argsort(partitions, kind="stable")
            batch = batch.take(pa.array(order))
            counts = np.bincount(partitions, minlength=job.num_partitions)
            numbers = np.flatnonzero(counts).tolist()
            ends = np.cumsum(counts)
            parts = [
                batch.slice(int(ends[n] - counts[n]), int(counts[n])) for n in numbers
            ]
        yield from zip(numbers, job.shuffle.put(parts, ROWS), strict=True)
