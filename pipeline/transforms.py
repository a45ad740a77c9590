"""The steps of the Beam job; :mod:`adaptiverec.pipeline.graph` puts them together.

Elements are blocks of rows, never single rows, and they are known by handles (see
:mod:`adaptiverec.pipeline.shuffle`). A "tally" is a dict of counts; tallies add up.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput

from adaptiverec.common.files import sha256_of_bytes
from adaptiverec.pipeline import hashing, progress_hook
from adaptiverec.pipeline.contract import VOCABULARY, shard_name
from adaptiverec.pipeline.item_counts import ItemCounts
from adaptiverec.pipeline.k_core import k_core
from adaptiverec.pipeline.output_files import Places, create_whole
from adaptiverec.pipeline.parse_block import BlockParser
from adaptiverec.pipeline.parse_lines import INTERACTIONS
from adaptiverec.pipeline.read_blocks import (
    DAMAGE,
    ByteRange,
    compression_of,
    read_blocks,
)
from adaptiverec.pipeline.reject import write_rejects
from adaptiverec.pipeline.sequences import Sequences, form_sequences
from adaptiverec.pipeline.shuffle import Handle, Shuffle
from adaptiverec.pipeline.split import (
    SplitPoints,
    TimeHistogram,
    TimeRange,
)
from adaptiverec.pipeline.write_shard import ShardSummary, keep, write_shard

__all__ = [
    "ITEMS",
    "SUMMARY",
    "TALLY",
    "Core",
    "FindCore",
    "Job",
    "KeptTimes",
    "Partition",
    "ReadRange",
    "SortPartition",
    "ToGraph",
    "WriteShard",
    "WriteSummary",
    "add_up",
]

SUMMARY = "summary.json"
TALLY = "tally"
ITEMS = "items"
_READING, _SORTING, _WRITING = "Reading", "Sorting", "Writing"


class Partition(NamedTuple):
    """The sequences of one partition's users, put aside."""

    number: int
    handle: Handle


class Core(NamedTuple):
    """What stays.

    Attributes:
        vocabulary: String array [num_items]; item n of it has the dense id n + 1.
        user_stays: For each partition, bool of shape [users of the partition] packed
            to bits.
        vocabulary_sha256: SHA-256 of the vocabulary file.
    """

    vocabulary: pa.Array
    user_stays: dict[int, np.ndarray]
    vocabulary_sha256: str

    def users_of(self, partition: int, num_users: int) -> np.ndarray:
        """Which users of a partition stay, bool of shape [num_users]."""
        return np.unpackbits(self.user_stays[partition], count=num_users).astype(bool)


@dataclasses.dataclass(frozen=True)
class Job:
    """What all steps need to know; pickled to the workers.

    Attributes:
        places: Where the run works.
        shuffle: How batches get from step to step.
        num_partitions: Number of partitions, which is the number of shards.
        block_bytes: How much of a file to parse at a time.
        time_format: As in ``prepare``.
        min_user_interactions: As in ``prepare``.
        min_item_interactions: As in ``prepare``.
        split: As in ``prepare``.
        points: The points of a split by time, if they were given.
    """

    places: Places
    shuffle: Shuffle
    num_partitions: int
    block_bytes: int
    time_format: str
    min_user_interactions: int
    min_item_interactions: int
    split: str
    points: SplitPoints | None


def add_up(tallies: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of tallies."""
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally)
    return dict(total)


class ReadRange(beam.DoFn):
    """A byte range to the partitions of its rows.

    The main output is pairs of partition number and handle of a batch of interactions.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        """Makes the parser, which remembers what worked last."""
        self._parser = BlockParser(self._job.time_format)

    def process(self, byte_range: ByteRange) -> Iterator[Any]:
        """Reads, parses, sets bad rows aside and scatters the good ones."""
        job = self._job
        tally: Counter[str] = Counter()
        try:
            for offset, data in read_blocks(byte_range, job.block_bytes):
                parsed = self._parser.parse(data, byte_range.layout)
                tally["rows_read"] += parsed.rows_read
                if parsed.rejects.lines:
                    write_rejects(job.places, byte_range, offset, parsed.rejects)
                    tally.update(f"rejected: {why}" for why in parsed.rejects.reasons)
                yield from self._scatter(parsed.batch)
        except DAMAGE as error:
            if compression_of(byte_range.path) is None:
                raise
            # The driver turns it into an error of the user's. Raised here, a runner
            # would wrap it in a traceback of its own.
            tally[f"damaged: {byte_range.path} ({error})"] += 1
        yield TaggedOutput(TALLY, dict(tally))
        progress_hook.advance(_READING, byte_range.stored_bytes)

    def _scatter(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Handle]]:
        job = self._job
        if not batch.num_rows:
            return
        if job.num_partitions == 1:
            numbers, parts = [0], [batch]
        else:
            hashes = hashing.hash_strings(batch.column("user"))
            partitions = hashing.partition_of(hashes, job.num_partitions)
            order = np.argsort(partitions, kind="stable")
            batch = batch.take(pa.array(order))
            counts = np.bincount(partitions, minlength=job.num_partitions)
            numbers = np.flatnonzero(counts).tolist()
            ends = np.cumsum(counts)
            parts = [
                batch.slice(int(ends[n] - counts[n]), int(counts[n])) for n in numbers
            ]
        yield from zip(numbers, job.shuffle.put(parts, "rows"), strict=True)


class SortPartition(beam.DoFn):
    """All batches of a partition to its sequences."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, element: tuple[int, Iterable[Handle | None]]) -> Iterator[Any]:
        """Yields the partition, its item counts and its tally."""
        number, handles = element
        shuffle = self._job.shuffle
        batches = [shuffle.get(handle) for handle in handles if handle is not None]
        if not batches:
            batches = [pa.RecordBatch.from_pylist([], schema=INTERACTIONS)]
        sequences, duplicates = form_sequences(batches)
        (handle,) = shuffle.put([sequences.to_batch()], "sequences")
        yield Partition(number, handle)
        yield TaggedOutput(ITEMS, ItemCounts.of(sequences))
        tally = {"duplicates": duplicates, "sorted": len(sequences.items)}
        yield TaggedOutput(TALLY, tally)
        progress_hook.advance(_SORTING)


class ToGraph(beam.DoFn):
    """A partition to its part of the user-item graph, in integers.

    Interactions with items that are too rare anyway are left out already.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, partition: Partition, counts: ItemCounts
    ) -> Iterator[tuple[None, Partition]]:
        """Yields the part of the graph under the one key there is."""
        shuffle = self._job.shuffle
        sequences = Sequences.from_batch(shuffle.get(partition.handle))
        positions = pc.index_in(sequences.item_ids, value_set=counts.item_ids)
        items = positions.fill_null(-1).to_numpy()[sequences.items]
        known = items >= 0
        passed = np.concatenate(([0], np.cumsum(known)))[sequences.offsets]
        graph = pa.record_batch(
            {
                "degrees": _list_of_one(np.diff(passed).astype(np.int32)),
                "items": _list_of_one(items[known]),
            }
        )
        (handle,) = shuffle.put([graph], "graph")
        yield None, Partition(partition.number, handle)


def _list_of_one(values: np.ndarray) -> pa.Array:
    offsets = pa.array([0, len(values)], pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pa.array(values))


class FindCore(beam.DoFn):
    """The whole graph to what stays of it; writes the vocabulary."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, element: tuple[None, Iterable[Partition]], counts: ItemCounts
    ) -> Iterator[Core]:
        """Yields what stays."""
        job = self._job
        parts = sorted(element[1], key=lambda partition: partition.number)
        graphs = [job.shuffle.get(part.handle) for part in parts]
        degrees = [graph.column("degrees").values.to_numpy() for graph in graphs]
        items = np.concatenate(
            [graph.column("items").values.to_numpy() for graph in graphs]
        )
        user_stays, item_counts = k_core(
            np.concatenate(degrees),
            items,
            len(counts.item_ids),
            job.min_user_interactions,
            job.min_item_interactions,
        )
        # Items are in the order of their ids' bytes, so a stable sort settles ties.
        order = np.argsort(-item_counts, kind="stable")
        order = order[: np.count_nonzero(item_counts)]
        vocabulary = counts.item_ids.take(pa.array(order))
        ends = np.cumsum([len(part) for part in degrees])
        packed = {
            part.number: np.packbits(stays)
            for part, stays in zip(parts, np.split(user_stays, ends[:-1]), strict=True)
        }
        text = "".join(item_id + "\n" for item_id in vocabulary.to_pylist()).encode()
        with create_whole(job.places, VOCABULARY) as file:
            file.write(text)
        yield Core(vocabulary, packed, sha256_of_bytes(text))


class KeptTimes(beam.DoFn):
    """The times of the kept interactions: their range, or their histogram."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, partition: Partition, core: Core, time_range: TimeRange | None = None
    ) -> Iterator[TimeRange | TimeHistogram]:
        """Yields the range, or with ``time_range`` the histogram over it."""
        times = _kept(self._job, partition, core).times
        if not len(times):
            return
        if time_range is None:
            yield TimeRange(int(times.min()), int(times.max()))
        else:
            yield TimeHistogram.of(times, time_range)


class WriteShard(beam.DoFn):
    """A partition to its shard."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, partition: Partition, core: Core, points: SplitPoints | None
    ) -> Iterator[ShardSummary]:
        """Writes the shard and yields what was written."""
        job = self._job
        kept = _kept(job, partition, core)
        name = shard_name(partition.number, job.num_partitions)
        yield write_shard(job.places, name, kept, job.split, points)
        progress_hook.advance(_WRITING)


def _kept(job: Job, partition: Partition, core: Core) -> Any:
    sequences = Sequences.from_batch(job.shuffle.get(partition.handle))
    stays = core.users_of(partition.number, len(sequences.user_ids))
    return keep(sequences, stays, core.vocabulary)


class WriteSummary(beam.DoFn):
    """All that the driver wants to know, to a file."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self,
        _: None,
        tally: dict[str, int],
        shards: list[ShardSummary],
        core: Core,
        points: SplitPoints | None,
    ) -> None:
        """Writes the summary; the element means nothing."""
        summary = {
            "tally": tally,
            "shards": [
                dataclasses.asdict(shard)
                for shard in sorted(shards, key=lambda shard: shard.file)
            ],
            "num_items": len(core.vocabulary),
            "vocabulary_sha256": core.vocabulary_sha256,
            "points": points,
        }
        with create_whole(self._job.places, ".work", SUMMARY) as file:
            file.write(json.dumps(summary).encode())
