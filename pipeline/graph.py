"""The steps of the Beam job, put together.

Byte ranges become rows by partition of users, these become the sequences of each
partition, and these become shards. From the sequences come the item counts and the
user-item graph, from both the core, and from the core the points of a split by time;
the shards wait for these. What the driver needs to know in the end goes to one file.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton, PCollection

from adaptiverec.pipeline.item_counts import CountItems
from adaptiverec.pipeline.read_blocks import ByteRange
from adaptiverec.pipeline.split import (
    TimeHistogram,
    TimeRange,
    merge_histograms,
    merge_ranges,
    split_points,
)
from adaptiverec.pipeline.transforms import (
    ITEMS,
    TALLY,
    Core,
    FindCore,
    Job,
    KeptTimes,
    Partition,
    ReadRange,
    SortPartition,
    ToGraph,
    WriteShard,
    WriteSummary,
    add_up,
)
from adaptiverec.pipeline.write_shard import ShardSummary

__all__ = ["build"]


def build(pipeline: beam.Pipeline, job: Job, ranges: list[ByteRange]) -> None:
    """Adds the whole job to a pipeline.

    Args:
        pipeline: What to add it to.
        job: What the steps need to know.
        ranges: What to read.
    """
    blocks = (
        pipeline
        | "ListRanges" >> beam.Create(ranges, reshuffle=False)
        | "SpreadRanges" >> beam.Reshuffle()
        | "ReadRanges"
        >> beam.ParDo(ReadRange(job))
        .with_outputs(TALLY, main="blocks")
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
    partitions = sequences.partitions
    item_counts = AsSingleton(
        sequences[ITEMS]
        | "CountItems" >> beam.CombineGlobally(CountItems(job.min_item_interactions))
    )
    core = AsSingleton(
        partitions
        | "ToGraph"
        >> beam.ParDo(ToGraph(job), item_counts).with_output_types(
            tuple[None, Partition]
        )
        | "GatherGraph" >> beam.GroupByKey()
        | "FindCore" >> beam.ParDo(FindCore(job), item_counts).with_output_types(Core)
    )
    points = _split_points(job, partitions, core)
    shards = partitions | "WriteShards" >> beam.ParDo(
        WriteShard(job), core, points
    ).with_output_types(ShardSummary)
    tally = (
        (blocks[TALLY], sequences[TALLY])
        | "AllTallies" >> beam.Flatten()
        | "AddUp" >> beam.CombineGlobally(add_up)
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        | "WriteSummary"
        >> beam.ParDo(
            WriteSummary(job), AsSingleton(tally), AsList(shards), core, points
        )
    )


def _split_points(job: Job, partitions: PCollection, core: AsSingleton) -> Any:
    """The points of a split by time: known, not needed, or still to be computed."""
    if job.split != "time" or job.points is not None:
        return job.points
    time_range = AsSingleton(
        partitions
        | "TimeRanges" >> beam.ParDo(KeptTimes(job), core).with_output_types(TimeRange)
        | "TimeRange" >> beam.CombineGlobally(merge_ranges)
    )
    return AsSingleton(
        partitions
        | "TimeHistograms"
        >> beam.ParDo(KeptTimes(job), core, time_range).with_output_types(TimeHistogram)
        | "TimeHistogram" >> beam.CombineGlobally(merge_histograms)
        | "SplitPoints" >> beam.Map(split_points)
    )
