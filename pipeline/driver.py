"""Runs the job: checks, starts Beam, checks the counts, publishes."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from adaptiverec.common.errors import InvalidValueError, OutputError
from adaptiverec.common.files import sha256_of_bytes
from adaptiverec.common.progress import say, steps
from adaptiverec.pipeline import contract, progress_hook
from adaptiverec.pipeline.graph import build
from adaptiverec.pipeline.input_files import find_files, split_into_ranges
from adaptiverec.pipeline.metadata import make_metadata
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.output_files import Places
from adaptiverec.pipeline.publish import is_remote, staged_output, write_file
from adaptiverec.pipeline.read_blocks import ByteRange
from adaptiverec.pipeline.runner import beam_pipeline_options, is_local, quiet_beam
from adaptiverec.pipeline.shuffle import Shuffle
from adaptiverec.pipeline.split import SplitPoints
from adaptiverec.pipeline.transforms import SUMMARY, Job

__all__ = ["run_job"]

# Large enough that a block's fixed costs do not show, small enough for the cache and
# for spreading blocks evenly.
_BLOCK_BYTES = 8 << 20
# Below this many blocks, starting threads costs more than they save.
_BLOCKS_FOR_THREADS = 4
_SHARD_BYTES = 8 << 20
_FEW_SHARDS = 32
_LARGE_SHARD_BYTES = 64 << 20
# How much text a compressed byte stands for, about.
_INFLATION = 5


def run_job(
    options: PrepareOptions,
    *,
    block_bytes: int = _BLOCK_BYTES,
    spill: bool | None = None,
) -> dict[str, Any]:
    """Runs the job.

    Args:
        options: What to do.
        block_bytes: How much of a file to parse at a time; never changes the result.
        spill: Whether batches are left in local files between steps; by default where
            the runner is local. Never changes the result either.

    Returns:
        The metadata.
    """
    begin = time.monotonic()
    quiet_beam()
    files = find_files(options)
    text_bytes = sum(
        file.num_bytes * (_INFLATION if file.compressed else 1) for file in files
    )
    num_shards = options.num_shards or default_num_shards(text_bytes)
    beam_options = beam_pipeline_options(
        options.beam_options,
        use_all_cores=text_bytes > _BLOCKS_FOR_THREADS * block_bytes,
    )
    ranges = [part for file in files for part in split_into_ranges(file, block_bytes)]
    if spill is None:
        spill = is_local(beam_options)
    with (
        staged_output(options.output) as places,
        _spill_directory(places, spill=spill) as directory,
    ):
        job = Job(
            places=places,
            shuffle=Shuffle(directory),
            num_partitions=num_shards,
            block_bytes=block_bytes,
            time_format=options.time_format,
            min_user_interactions=options.min_user_interactions,
            min_item_interactions=options.min_item_interactions,
            split=options.split,
            points=_given_points(options),
        )
        with steps() as shown, progress_hook.listening(shown):
            if is_local(beam_options):
                shown.start("Reading", sum(part.stored_bytes for part in ranges))
                shown.start("Sorting", num_shards)
                shown.start("Writing", num_shards)
            _run(beam_options, job, ranges)
        metadata = make_metadata(_read_summary(places), options, num_shards, files)
        text = (json.dumps(metadata, indent=2, ensure_ascii=False) + "\n").encode()
        write_file(places, contract.METADATA, text)
        write_file(places, contract.MARKER, (sha256_of_bytes(text) + "\n").encode())
    _say_summary(metadata, time.monotonic() - begin)
    return metadata


def _run(options: PipelineOptions, job: Job, ranges: list[ByteRange]) -> None:
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:
        # What a runner cannot do without, such as a project.
        raise InvalidValueError(
            f"`beam_options` must be complete for their runner. Received: {error}"
        ) from error
    build(pipeline, job, ranges)
    try:
        pipeline.run().wait_until_finish()
    except RuntimeError as error:
        # Runners give a worker's exception as text.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OutputError(
            "There must be room beside the output for the rows themselves, twice, and "
            f"the sequences. Received: {os.strerror(errno.ENOSPC)} in "
            f"{job.places.output}"
        ) from error


def default_num_shards(text_bytes: int) -> int:
    """One shard for each 8 MB up to 32, then one for each 64 MB, at least one."""
    few = min(_FEW_SHARDS, -(-text_bytes // _SHARD_BYTES))
    return max(1, few, -(-text_bytes // _LARGE_SHARD_BYTES))


@contextmanager
def _spill_directory(places: Places, *, spill: bool) -> Iterator[str | None]:
    """Where batches are left between steps, if they are."""
    if not spill:
        yield None
    elif is_remote(places.work):
        with tempfile.TemporaryDirectory(prefix="adaptiverec-") as directory:
            yield directory
    else:
        # Beside the output, where there must be room anyway.
        yield places.work


def _given_points(options: PrepareOptions) -> SplitPoints | None:
    if options.validation_start is None or options.test_start is None:
        return None
    return SplitPoints(options.validation_start, options.test_start)


def _read_summary(places: Places) -> dict[str, Any]:
    with FileSystems.open(FileSystems.join(places.work, SUMMARY)) as file:
        return json.loads(file.read())


def _say_summary(metadata: dict[str, Any], seconds: float) -> None:
    counts = metadata["counts"]
    say(
        f"Prepared {counts['rows_read']:,} rows: {counts['rejected']:,} rejected, "
        f"{counts['duplicates']:,} duplicates, {counts['below_min_interactions']:,} of "
        f"rare users and items; {metadata['num_users']:,} users, "
        f"{metadata['num_items']:,} items, {metadata['num_interactions']:,} "
        f"interactions, in {seconds:.1f} s."
    )
