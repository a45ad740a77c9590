"""The one entry point of the stage. Imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal

from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.quiet_import import quiet_import

__all__ = ["prepare"]


def prepare(
    *,
    input: list[str],
    output: str,
    user_column: str,
    item_column: str,
    time_column: str | None = None,
    order_column: str | None = None,
    rating_column: str | None = None,
    event_column: str | None = None,
    passthrough_columns: list[str] | None = None,
    format: Literal["auto", "csv", "jsonl", "parquet", "avro"] = "auto",
    compression: Literal["auto", "none", "gzip", "bzip2", "zstd"] = "auto",
    encoding: str = "utf-8",
    delimiter: str = ",",
    quote: str = '"',
    header: bool = True,
    multiline: bool = False,
    time_format: str = "s",
    time_zone: str = "UTC",
    trim_ids: bool = False,
    lowercase_ids: bool = False,
    event_types: list[str] | None = None,
    min_rating: float | None = None,
    start_time: str | None = None,
    end_time: str | None = None,
    repeats: Literal["keep", "collapse", "first", "last"] = "keep",
    max_user_interactions: int | None = None,
    min_user_interactions: int = 5,
    min_item_interactions: int = 5,
    max_rejected_fraction: float = 0.5,
    base_vocabulary: str | None = None,
    split: Literal["leave-one-out", "time", "none"] = "leave-one-out",
    validation_start: str | None = None,
    test_start: str | None = None,
    validation_days: float | None = None,
    test_days: float | None = None,
    num_shards: int | None = None,
    output_compression: Literal["none", "gzip"] = "none",
    report: bool = True,
    beam_options: list[str] | None = None,
) -> dict[str, Any]:
    r"""Turns interaction logs into one TFRecord sequence a user, with a Beam job.

    Every row read is accounted for: rejected with a reason and set aside, filtered by
    a rule, an exact duplicate, a repeat, beyond a user's maximum, of a rare user or
    item, or kept. The rules apply in that order. Each user's interactions are ordered
    by time, then by ``order_column``, and where both are equal by a hash of user id and
    item id: the same rows give the same bytes whatever the order of files, rows or
    workers, and whatever the runner.

    The output directory appears whole or not at all, and is never overwritten.

    Args:
        input: Files: paths or patterns such as ``logs/*.csv.gz``, local or on a file
            system that Beam knows.
        output: Directory to write. It must not exist yet.
        user_column: Name of the column with user ids; in delimited text its position
            counted from 0 will do too, and without a header it must. Ids are text and
            stay as they are written.
        item_column: Name or position of the column with item ids.
        time_column: Name or position of the column with times. Without it
            ``order_column`` alone orders, and sequences carry no times.
        order_column: Column with integers that order a user's interactions of equal
            time.
        rating_column: Column with a number a row, such as a rating or a weight. It is
            kept beside each interaction.
        event_column: Column with the type of event. It is kept beside each interaction.
        passthrough_columns: Columns whose text is kept beside each interaction.
        format: How files are written: delimited text (csv), JSON lines, Parquet or
            Avro. ``auto`` goes by the file's extension: ``.jsonl``, ``.ndjson``,
            ``.json``, ``.parquet``, ``.avro``; anything else is delimited text.
        compression: Of text files. ``auto`` goes by the extension: ``.gz``, ``.bz2``,
            ``.zst``, ``.zstd``. One worker reads a compressed file.
        encoding: Character encoding of text files, by Python's name for it: any whose
            characters do not depend on those before them. Rows with text that is not
            valid in it are rejected.
        delimiter: What separates fields: one character, or several such as ``::``.
            ``\t`` means a tab.
        quote: The character that a field may be quoted with; empty where quotes mean
            nothing.
        header: Whether the first line of each delimited file names its columns.
        multiline: Whether quoted fields may hold line breaks. One worker then reads a
            file, since it can only be cut by reading it from its beginning, and a row
            may have 1 MiB at most. Otherwise such rows are rejected.
        time_format: Numbers since 1970-01-01 UTC in seconds (s), milliseconds (ms) or
            microseconds (us), ISO 8601 text (iso8601), or a pattern of Python's
            ``strptime``. Negative numbers are times before 1970. Times that Parquet or
            Avro stores as such need no format.
        time_zone: Where clocks show the times that name no zone, such as
            ``Europe/London``; also those of ``start_time`` and its like. A time that
            the clocks showed twice is the first of the two; one that they skipped is as
            much later.
        trim_ids: Takes white space of ASCII off both ends of ids.
        lowercase_ids: Writes the letters A to Z of ids in lower case, so that ``A1`` and
            ``a1`` are one. Other letters stay: their lower case depends on locale and
            Unicode version, and the server has to do the same as this job.
        event_types: The types of event that count; the others are filtered.
        min_rating: Interactions rated lower are filtered.
        start_time: ISO 8601 time from which interactions count; earlier ones are
            filtered.
        end_time: ISO 8601 time before which interactions count.
        repeats: What becomes of an item that a user has several times: ``keep`` all,
            ``collapse`` those that follow each other to the first of them, or keep the
            ``first`` or the ``last`` only. Minimums count what is left.
        max_user_interactions: Of users with more, the newest are kept.
        min_user_interactions: Users with fewer kept interactions are dropped.
        min_item_interactions: Items with fewer kept interactions are dropped. Both
            minimums hold at once in the output.
        max_rejected_fraction: The job fails, and writes nothing, when a larger part of
            the rows is rejected.
        base_vocabulary: An earlier output, or its ``vocabulary.txt``. Its items keep
            their dense ids, whether they occur or not; new items get the ids after
            them.
        split: ``leave-one-out`` holds out each user's last interaction for the test and
            the one before it for validation, and keeps users with fewer than three
            wholly for training. ``time`` holds out by two points in time. ``none``
            holds out nothing.
        validation_start: ISO 8601 time from which interactions are for validation, with
            ``split=time``. Without points or days, the two points are where 80 % and
            90 % of the kept interactions have passed, rounded up to 1/65536 of the time
            range.
        test_start: ISO 8601 time from which interactions are for the test.
        validation_days: With ``split=time``, the length of the validation part, which
            ends where the test part begins.
        test_days: The length of the test part, which ends with the last kept
            interaction.
        num_shards: Number of sequence files. By default it follows from the number of
            kept interactions: one for each million, rounded up to a power of two.
        output_compression: ``gzip`` compresses the sequence files.
        report: Whether to write ``report.html``, a page with the counts and pictures of
            the data.
        beam_options: Flags of Beam itself, such as ``--runner=FlinkRunner``. The
            default runner uses all cores of this machine.

    Returns:
        The content of the output's ``metadata.json``: counts, options, files and their
        SHA-256.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: A pattern matches no file, a file lacks a column, or
            ``base_vocabulary`` is not there.
        ContractError: ``base_vocabulary`` is no whole output or vocabulary.
        OutputExistsError: The output is already there.
        OutputError: The output cannot be written.
        StageError: No interaction is left, too many rows are rejected, or an input file
            is damaged. Nothing is published then.
    """
    options = PrepareOptions.checked(
        input=input,
        output=output,
        user_column=user_column,
        item_column=item_column,
        time_column=time_column,
        order_column=order_column,
        rating_column=rating_column,
        event_column=event_column,
        passthrough_columns=passthrough_columns,
        format=format,
        compression=compression,
        encoding=encoding,
        delimiter=delimiter,
        quote=quote,
        header=header,
        multiline=multiline,
        time_format=time_format,
        time_zone=time_zone,
        trim_ids=trim_ids,
        lowercase_ids=lowercase_ids,
        event_types=event_types,
        min_rating=min_rating,
        start_time=start_time,
        end_time=end_time,
        repeats=repeats,
        max_user_interactions=max_user_interactions,
        min_user_interactions=min_user_interactions,
        min_item_interactions=min_item_interactions,
        max_rejected_fraction=max_rejected_fraction,
        base_vocabulary=base_vocabulary,
        split=split,
        validation_start=validation_start,
        test_start=test_start,
        validation_days=validation_days,
        test_days=test_days,
        num_shards=num_shards,
        output_compression=output_compression,
        report=report,
        beam_options=beam_options,
    )
    # Only here: Beam takes over a second to import.
    with quiet_import():
        from adaptiverec.pipeline.driver import run_job

    return run_job(options)
