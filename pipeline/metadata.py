"""The content of ``metadata.json``.

There is no wall-clock time in it: the same rows and options give the same bytes.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

from adaptiverec.common.errors import StageError
from adaptiverec.pipeline import contract
from adaptiverec.pipeline.accounting import (
    check_rejected_fraction,
    check_shards,
    count_rows,
)
from adaptiverec.pipeline.base_vocabulary import BaseVocabulary
from adaptiverec.pipeline.input_files import InputFile
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.time_options import format_time

__all__ = ["make_metadata"]

_SUMS = (
    "num_users",
    "num_interactions",
    "num_train_instances",
    "num_validation_instances",
    "num_test_instances",
    "num_users_without_targets",
)
_POINTS = ("start_time", "end_time", "validation_start", "test_start")
_LENGTHS = ("validation_days", "test_days")
_MICROSECONDS_PER_DAY = 86_400_000_000


def make_metadata(
    summary: dict[str, Any],
    options: PrepareOptions,
    files: list[InputFile],
    base: BaseVocabulary | None,
) -> dict[str, Any]:
    """Makes the metadata of a run.

    Args:
        summary: What the job wrote for the driver.
        options: What was asked for.
        files: The input files.
        base: The base vocabulary, if there is one.

    Returns:
        The metadata, as JSON has it.

    Raises:
        StageError: An input file is damaged, too many rows were rejected, nothing is
            left, the numbers do not agree, or a split by time has no points.
    """
    shards = summary["shards"]
    sums = {key: sum(shard[key] for shard in shards) for key in _SUMS}
    counts = count_rows(summary["tally"], sums["num_interactions"])
    check_rejected_fraction(counts, summary["examples"], options.max_rejected_fraction)
    check_shards(summary)
    lengths = [length for length, _ in summary["sequence_lengths"]]
    return {
        "schema_version": contract.SCHEMA_VERSION,
        "producer": f"adaptiverec {version('adaptiverec')}",
        "num_users": sums["num_users"],
        "num_items": summary["num_items"],
        **{key: sums[key] for key in _SUMS[1:]},
        "rejected": counts.totals["rejected"],
        "rejected_by_reason": counts.rejected_by_reason,
        "filtered_by_rule": counts.filtered_by_rule,
        "counts": counts.totals,
        "time_range": _time_range(shards, options),
        "split": _split(options, summary["points"]),
        "sequence_length": {
            "min": min(lengths),
            "mean": sums["num_interactions"] / sums["num_users"],
            "max": max(lengths),
        },
        "id_normalization": {
            "trim": options.trim_ids,
            "lowercase": options.lowercase_ids,
        },
        "configuration": _configuration(options, summary["num_shards"]),
        "input_files": [{"path": file.path, "bytes": file.num_bytes} for file in files],
        "vocabulary": _vocabulary(summary, base),
        "popularity": {
            "file": contract.POPULARITY,
            "sha256": summary["popularity_sha256"],
        },
        "compression": options.output_compression,
        "shards": [
            {
                key: shard[key]
                for key in ("file", "num_users", "sha256", "content_sha256")
            }
            for shard in shards
        ],
        "fingerprint": contract.fingerprint(
            summary["vocabulary"]["sha256"],
            [shard["content_sha256"] for shard in shards],
        ),
    }


def _time_range(
    shards: list[dict[str, Any]], options: PrepareOptions
) -> dict[str, str] | None:
    if options.time_column is None:
        return None
    filled = [shard for shard in shards if shard["num_users"]]
    return {
        "first": format_time(min(shard["first"] for shard in filled)),
        "last": format_time(max(shard["last"] for shard in filled)),
    }


def _vocabulary(summary: dict[str, Any], base: BaseVocabulary | None) -> dict[str, Any]:
    facts = dict(summary["vocabulary"])
    described = {
        "file": contract.VOCABULARY,
        "size": summary["num_items"],
        "sha256": facts.pop("sha256"),
    }
    if base is not None:
        described["base"] = {"source": base.source, "sha256": base.sha256, **facts}
    return described


def _split(options: PrepareOptions, points: list[int] | None) -> dict[str, Any]:
    if options.split != "time" or points is None:
        return {"method": options.split}
    validation, test = points
    if validation >= test:
        raise StageError(
            "The times must be spread enough for a split by time: 80 % and 90 % of the "
            "interactions must not have passed at the same point. Give "
            "`validation_start` and `test_start`, or another `split`. Received: "
            f"{format_time(validation)} for both"
        )
    return {
        "method": options.split,
        "validation_start": format_time(validation),
        "test_start": format_time(test),
    }


def _configuration(options: PrepareOptions, num_shards: int) -> dict[str, Any]:
    configuration = dataclasses.asdict(options)
    del configuration["output"]
    for name, value in configuration.items():
        if value is None:
            continue
        if name in _POINTS:
            configuration[name] = format_time(value)
        elif name in _LENGTHS:
            configuration[name] = value / _MICROSECONDS_PER_DAY
        elif isinstance(value, tuple):
            # As JSON has them.
            configuration[name] = list(value)
    return {**configuration, "num_shards": num_shards}
