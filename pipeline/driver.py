"""Runs the job: checks, starts Beam, checks the counts, publishes."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.files import is_remote
from adaptiverec.common.progress import say, steps
from adaptiverec.pipeline import contract, progress_hook
from adaptiverec.pipeline.base_vocabulary import read_base_vocabulary
from adaptiverec.pipeline.find_core import BASE_VOCABULARY
from adaptiverec.pipeline.graph import build
from adaptiverec.pipeline.input_files import InputFile, find_files, split_into_ranges
from adaptiverec.pipeline.job import Job
from adaptiverec.pipeline.memory import keep_for_reuse
from adaptiverec.pipeline.metadata import make_metadata
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.output_files import Places
from adaptiverec.pipeline.publish import (
    staged_output,
    write_file,
    write_last,
)
from adaptiverec.pipeline.report_details import report_details
from adaptiverec.pipeline.runner import (
    beam_pipeline_options,
    is_local,
    new_pipeline,
    quiet_beam,
    run_to_the_end,
)
from adaptiverec.pipeline.shuffle import Shuffle
from adaptiverec.pipeline.sizes import num_partitions_for
from adaptiverec.pipeline.summary import SUMMARY

__all__ = ["run_job"]

# Large enough that a block's fixed costs do not show, small enough for the cache and
# for spreading blocks evenly.
_BLOCK_BYTES = 8 << 20
# Below this many blocks, starting threads costs more than they save.
_BLOCKS_FOR_THREADS = 4
# How much text a byte stands for where it is not text itself, about.
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
    text_bytes = sum(_text_bytes(file) for file in files)
    base = read_base_vocabulary(options)
    num_partitions = num_partitions_for(text_bytes, options.num_shards)
    beam_options = beam_pipeline_options(
        options.beam_options,
        use_all_cores=text_bytes > _BLOCKS_FOR_THREADS * block_bytes,
    )
    parts = [part for file in files for part in split_into_ranges(file, block_bytes)]
    local = is_local(beam_options)
    if local:
        keep_for_reuse()
    if spill is None:
        spill = local
    with (
        staged_output(options.output) as places,
        _spill_directory(places, spill=spill) as directory,
    ):
        job = Job(
            options=options,
            places=places,
            shuffle=Shuffle(directory, places.work),
            num_partitions=num_partitions,
            block_bytes=block_bytes,
        )
        if base is not None:
            write_file(places, f".work/{BASE_VOCABULARY}", base.text)
        with steps() as shown, progress_hook.listening(shown):
            if local:
                shown.start("Reading", sum(part.stored_bytes for part in parts))
                shown.start("Sorting", num_partitions)
                shown.start("Writing", num_partitions)
            pipeline = new_pipeline(beam_options)
            build(pipeline, job, parts)
            run_to_the_end(pipeline, local=local, output=options.output)
        summary = _read_summary(places)
        metadata = make_metadata(summary, options, files, base)
        if options.report:
            write_file(places, contract.REPORT, _report(metadata, summary, places))
        write_last(places, metadata)
    _say_summary(metadata, time.monotonic() - begin)
    return metadata


def _text_bytes(file: InputFile) -> int:
    packed = file.compressed or (file.form and file.form.format == "parquet")
    return file.num_bytes * (_INFLATION if packed else 1)


def _report(metadata: dict[str, Any], summary: dict[str, Any], places: Places) -> bytes:
    # Only here: the pictures take a second to import.
    from adaptiverec.pipeline.report import render_report

    page = render_report(metadata, report_details(summary, places))
    return page.encode("utf-8", "backslashreplace")


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


def _read_summary(places: Places) -> dict[str, Any]:
    with FileSystems.open(FileSystems.join(places.work, SUMMARY)) as file:
        return json.loads(file.read())


def _say_summary(metadata: dict[str, Any], seconds: float) -> None:
    counts = metadata["counts"]
    dropped = "".join(
        f"{counts[key]:,} {name}, "
        for key, name in (
            ("filtered", "filtered"),
            ("repeats", "repeats"),
            ("over_max_user_interactions", "beyond a user's maximum"),
        )
        if counts[key]
    )
    say(
        f"Prepared {counts['rows_read']:,} rows: {counts['rejected']:,} rejected, "
        f"{counts['duplicates']:,} duplicates, {dropped}"
        f"{counts['below_min_interactions']:,} of rare users and items; "
        f"{metadata['num_users']:,} users, {metadata['num_items']:,} items, "
        f"{metadata['num_interactions']:,} interactions, in {seconds:.1f} s."
    )
