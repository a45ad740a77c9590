"""The steps of the Beam job that every partition goes through, one by one.

:mod:`adaptiverec.pipeline.graph` puts them together. Elements are blocks of rows, never
single rows, and they are known by handles (see :mod:`adaptiverec.pipeline.shuffle`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from adaptiverec.pipeline import hashing, progress_hook
from adaptiverec.pipeline.contract import shard_name
from adaptiverec.pipeline.core import Core
from adaptiverec.pipeline.find_core import IndexedPartition, Partition
from adaptiverec.pipeline.form_sequences import form_sequences
from adaptiverec.pipeline.interactions import schema_of
from adaptiverec.pipeline.item_counts import ItemCounts
from adaptiverec.pipeline.job import TALLY, Job
from adaptiverec.pipeline.kept_sequences import KeptSequences, keep
from adaptiverec.pipeline.memory import give_back
from adaptiverec.pipeline.sequences import Sequences, rows_of
from adaptiverec.pipeline.shard_writer import shard_writer
from adaptiverec.pipeline.shuffle import Handle
from adaptiverec.pipeline.split import SplitPoints, TimeHistogram, TimeRange

__all__ = [
    "ITEMS",
    "STATISTICS",
    "ByShard",
    "KeptTimes",
    "SortPartition",
    "WriteShard",
]

# Names of side outputs.
ITEMS = "items"
STATISTICS = "statistics"
_SORTING, _WRITING = "Sorting", "Writing"


class SortPartition(beam.DoFn):
    """All batches of a partition to its sequences."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, element: tuple[int, Iterable[Handle | None]]) -> Iterator[Any]:
        """Yields the partition, its item counts and its tally."""
        number, handles = element
        shuffle, options = self._job.shuffle, self._job.options
        batches = [shuffle.get(handle) for handle in handles if handle is not None]
        if not batches:
            batches = [pa.RecordBatch.from_pylist([], schema=schema_of(options))]
        sequences, tally = form_sequences(
            batches,
            repeats=options.repeats,
            max_user_interactions=options.max_user_interactions,
        )
        del batches
        (handle,) = shuffle.put([sequences.to_batch()], "sequences")
        yield Partition(number, handle)
        yield TaggedOutput(ITEMS, ItemCounts.of(sequences))
        yield TaggedOutput(TALLY, {**tally, "sorted": len(sequences.items)})
        progress_hook.advance(_SORTING)

    def finish_bundle(self) -> None:
        """Leaves nothing behind for the steps to come."""
        give_back()


class KeptTimes(beam.DoFn):
    """The times of the kept interactions: their range, or their histogram."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self,
        partition: IndexedPartition,
        core: Core,
        time_range: TimeRange | None = None,
    ) -> Iterator[TimeRange | TimeHistogram]:
        """Yields the range, or with ``time_range`` the histogram over it."""
        times = _kept(self._job, partition, core).times
        if not len(times):
            return
        if time_range is None:
            yield TimeRange(int(times.min()), int(times.max()))
        else:
            yield TimeHistogram.of(times, time_range)


class ByShard(beam.DoFn):
    """A partition under the number of the group of shards that it goes to.

    Shards and partitions cut the same range of hashes, one more finely than the other:
    a group is a shard of several partitions, or several shards of one partition.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, partition: IndexedPartition, core: Core
    ) -> Iterator[tuple[int, IndexedPartition]]:
        """Yields the group and the partition."""
        partitions = self._job.num_partitions
        groups = min(partitions, core.num_shards)
        yield partition.number * groups // partitions, partition


class WriteShard(beam.DoFn):
    """The partitions of a group to its shards, a partition in memory at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self,
        element: tuple[int, Iterable[IndexedPartition]],
        core: Core,
        points: SplitPoints | None,
    ) -> Iterator[Any]:
        """Writes the shards and yields what was written, and a description of it."""
        group, partitions = element
        ordered = sorted(partitions, key=lambda partition: partition.number)
        shards = core.num_shards // min(core.num_shards, self._job.num_partitions)
        if shards == 1:
            parts = (_kept(self._job, partition, core) for partition in ordered)
            yield from self._write(group, parts, core, points)
        else:
            (partition,) = ordered
            kept = _kept(self._job, partition, core)
            numbers = hashing.partition_of(
                hashing.hash_strings(kept.user_ids), core.num_shards
            )
            for number in range(group * shards, (group + 1) * shards):
                first, last = np.searchsorted(numbers, [number, number + 1])
                yield from self._write(number, [kept.part(first, last)], core, points)
        progress_hook.advance(_WRITING, len(ordered))

    def finish_bundle(self) -> None:
        """Leaves nothing behind for the steps to come."""
        give_back()

    def _write(
        self,
        number: int,
        parts: Iterable[KeptSequences],
        core: Core,
        points: SplitPoints | None,
    ) -> Iterator[Any]:
        options = self._job.options
        name = shard_name(number, core.num_shards, options.output_compression)
        with shard_writer(
            self._job.places, name, options, points, core.num_items
        ) as writer:
            for kept in parts:
                writer.write(kept)
        yield writer.summary
        yield TaggedOutput(STATISTICS, writer.statistics)


def _kept(job: Job, partition: IndexedPartition, core: Core) -> KeptSequences:
    sequences = Sequences.from_batch(job.shuffle.get(partition.handle))
    positions = rows_of(job.shuffle.get(partition.items))["items"].to_numpy()
    # The last place, which -1 means too, stands for items that were not counted.
    dense_ids = np.append(core.dense_ids, np.int32(0))[positions]
    stays = core.users_of(partition.number, len(sequences.user_ids))
    return keep(sequences, stays, dense_ids)
