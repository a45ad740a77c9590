"""The one entry point of the stage. Imports nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from adaptiverec.pipeline.options import PrepareOptions

__all__ = ["prepare"]


def prepare(
    *,
    input: list[str],
    output: str,
    user_column: str,
    item_column: str,
    time_column: str,
    delimiter: str = ",",
    header: bool = True,
    time_format: Literal["s", "ms", "us", "iso8601"] = "s",
    min_user_interactions: int = 5,
    min_item_interactions: int = 5,
    split: Literal["leave-one-out", "time", "none"] = "leave-one-out",
    validation_start: str | None = None,
    test_start: str | None = None,
    num_shards: int | None = None,
    beam_options: list[str] | None = None,
) -> dict[str, Any]:
    r"""Turns interaction logs into one TFRecord sequence a user, with a Beam job.

    Bad rows are set aside with a reason each, exact duplicates (same user, item and
    time) are dropped, rare users and rare items are removed until every one left has
    enough interactions, and each user's interactions are ordered by time. Interactions
    of a user at the same time are ordered by a hash of user id and item id: the same
    rows give the same bytes whatever the order of files, rows or workers.

    The output directory appears whole or not at all, and is never overwritten.

    Args:
        input: Delimited text files: paths or patterns such as ``logs/*.csv.gz``, local
            or on a file system that Beam knows; plain, ``.gz`` or ``.bz2``. A field may
            be quoted with ``"``, but a line break inside quotes is not supported: such
            lines are rejected.
        output: Directory to write. It must not exist yet.
        user_column: Name of the column with user ids; without a header, its position
            counted from 0. Ids are text and stay as they are.
        item_column: Name or position of the column with item ids.
        time_column: Name or position of the column with times.
        delimiter: The one character between fields. ``\t`` means a tab.
        header: Whether the first line of each file names its columns.
        time_format: Numbers since 1970-01-01 UTC in seconds (s), milliseconds (ms) or
            microseconds (us), or ISO 8601 text (iso8601), UTC where it names no zone.
            Negative numbers are times before 1970.
        min_user_interactions: Users with fewer kept interactions are dropped.
        min_item_interactions: Items with fewer kept interactions are dropped. Both
            minimums hold at once in the output.
        split: ``leave-one-out`` holds out each user's last interaction for the test and
            the one before it for validation, and keeps users with fewer than three
            wholly for training. ``time`` holds out by two points in time. ``none``
            holds out nothing.
        validation_start: ISO 8601 time from which interactions are for validation, with
            ``split=time``. Left out together with ``test_start``, the two are the
            points where 80 % and 90 % of the kept interactions have passed, rounded up
            to 1/65536 of the time range.
        test_start: ISO 8601 time from which interactions are for the test.
        num_shards: Number of sequence files. By default it follows from the size of the
            input: 1 for up to 8 MB, and more for more.
        beam_options: Flags of Beam itself, such as ``--runner=FlinkRunner``. The
            default runner uses all cores of this machine.

    Returns:
        The content of the output's ``metadata.json``: counts, options, files and their
        SHA-256.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: A pattern matches no file, or a file lacks a column.
        OutputExistsError: The output is already there.
        OutputError: The output cannot be written.
        StageError: No interaction is left, or an input file is damaged. Nothing is
            published then.
    """
    options = PrepareOptions.checked(
        input=input,
        output=output,
        user_column=user_column,
        item_column=item_column,
        time_column=time_column,
        delimiter=delimiter,
        header=header,
        time_format=time_format,
        min_user_interactions=min_user_interactions,
        min_item_interactions=min_item_interactions,
        split=split,
        validation_start=validation_start,
        test_start=test_start,
        num_shards=num_shards,
        beam_options=beam_options,
    )
    # Only here: Beam takes over a second to import.
    with _quiet_import():
        from adaptiverec.pipeline.driver import run_job

    return run_job(options)


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Imports Beam without its warning about cloud clients that are not installed."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
