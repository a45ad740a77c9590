"""The steps of the Beam job, put together.

Parts of files become rows by partition of users, and these become the sequences of each
partition. From the sequences come the item counts and the user-item graph, from both
the core, and from the core the points of a split by time. Partitions and core become
shards, and what the driver needs to know in the end goes to one file.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton, PCollection

from adaptiverec.pipeline.core import Core
from adaptiverec.pipeline.file_parts import FilePart
from adaptiverec.pipeline.find_core import (
    INDEXED,
    VOCABULARY_FACTS,
    FindCore,
    IndexedPartition,
    IndexItems,
    Partition,
)
from adaptiverec.pipeline.item_counts import CountedItems, CountItems
from adaptiverec.pipeline.item_table import ItemTable
from adaptiverec.pipeline.job import EXAMPLES, TALLY, Job
from adaptiverec.pipeline.kept_statistics import AddUpStatistics
from adaptiverec.pipeline.read_rows import ReadRows
from adaptiverec.pipeline.reject import KeepExamples
from adaptiverec.pipeline.shard_writer import ShardSummary
from adaptiverec.pipeline.split import (
    SplitPoints,
    TimeHistogram,
    TimeRange,
    merge_histograms,
    merge_ranges,
    points_of_last_days,
    split_points,
)
from adaptiverec.pipeline.summary import WriteSummary
from adaptiverec.pipeline.transforms import (
    ITEMS,
    STATISTICS,
    ByShard,
    KeptTimes,
    SortPartition,
    WriteShard,
)

__all__ = ["build"]


def build(pipeline: beam.Pipeline, job: Job, parts: list[FilePart]) -> None:
    """Adds the whole job to a pipeline.

    Args:
        pipeline: What to add it to.
        job: What the steps need to know.
        parts: What to read.
    """
    blocks = (
        pipeline
        | "ListParts" >> beam.Create(parts, reshuffle=False)
        | "SpreadParts" >> beam.Reshuffle()
        | "ReadRows"
        >> beam.ParDo(ReadRows(job))
        .with_outputs(TALLY, EXAMPLES, main="blocks")
        .with_output_types(tuple[int, Any])
    )
    # Every partition is there, even without a row: every shard gets written.
    seeds = pipeline | "ListPartitions" >> beam.Create(
        [(number, None) for number in range(job.num_partitions)], reshuffle=False
    ).with_output_types(tuple[int, Any])
    sequences = (
        (blocks.blocks, seeds)
        | "AllBatches" >> beam.Flatten()
        | "GroupByPartition" >> beam.GroupByKey()
        | "SortPartitions"
        >> beam.ParDo(SortPartition(job))
        .with_outputs(ITEMS, TALLY, main="partitions")
        .with_output_types(Partition)
    )
    # Every partition counts, and writes: nothing is combined of nothing, which spares a
    # number of steps.
    counted = (
        sequences[ITEMS]
        | "CountItems"
        >> beam.CombineGlobally(
            CountItems(job.options.min_item_interactions)
        ).without_defaults()
    )
    table = counted | "ItemTable" >> beam.Map(_table)
    indexed = sequences.partitions | "IndexItems" >> beam.ParDo(
        IndexItems(job), AsSingleton(table)
    ).with_outputs(INDEXED, main="graph").with_output_types(tuple[None, Partition])
    partitions = indexed[INDEXED]
    found = (
        indexed.graph
        | "GatherGraph" >> beam.GroupByKey()
        | "FindCore"
        >> beam.ParDo(FindCore(job), AsSingleton(counted))
        .with_outputs(VOCABULARY_FACTS, main="core")
        .with_output_types(Core)
    )
    core = AsSingleton(found.core)
    points = _split_points(job, partitions, core)
    shards = (
        partitions
        | "ByShard"
        >> beam.ParDo(ByShard(job), core).with_output_types(
            tuple[int, IndexedPartition]
        )
        | "GroupByShard" >> beam.GroupByKey()
        | "WriteShards"
        >> beam.ParDo(WriteShard(job), core, points)
        .with_outputs(STATISTICS, main="shards")
        .with_output_types(ShardSummary)
    )
    examples = (
        blocks[EXAMPLES]
        | "KeepExamples" >> beam.CombineGlobally(KeepExamples()).without_defaults()
    )
    statistics = (
        shards[STATISTICS]
        | "AddUpStatistics"
        >> beam.CombineGlobally(AddUpStatistics()).without_defaults()
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        | "WriteSummary"
        >> beam.ParDo(
            WriteSummary(job),
            # Small, one for each part of a file and each partition.
            AsList(blocks[TALLY]),
            AsList(sequences[TALLY]),
            AsSingleton(examples, {}),
            AsList(shards.shards),
            AsSingleton(statistics),
            core,
            AsSingleton(found[VOCABULARY_FACTS]),
            points,
        )
    )


def _table(counted: CountedItems) -> ItemTable:
    return counted.table


def _split_points(job: Job, partitions: PCollection, core: AsSingleton) -> Any:
    """The points of a split by time: known, not needed, or still to be computed."""
    options = job.options
    if options.split != "time":
        return None
    if options.validation_start is not None and options.test_start is not None:
        return SplitPoints(options.validation_start, options.test_start)
    time_range = (
        partitions
        | "TimeRanges" >> beam.ParDo(KeptTimes(job), core).with_output_types(TimeRange)
        | "TimeRange" >> beam.CombineGlobally(merge_ranges)
    )
    if options.validation_days is not None:
        return AsSingleton(
            time_range
            | "PointsOfLastDays"
            >> beam.Map(points_of_last_days, options.validation_days, options.test_days)
        )
    return AsSingleton(
        partitions
        | "TimeHistograms"
        >> beam.ParDo(KeptTimes(job), core, AsSingleton(time_range)).with_output_types(
            TimeHistogram
        )
        | "TimeHistogram" >> beam.CombineGlobally(merge_histograms)
        | "SplitPoints" >> beam.Map(split_points)
    )
