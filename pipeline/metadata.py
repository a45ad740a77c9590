"""The content of ``metadata.json``, and the checks that the numbers agree.

There is no wall-clock time in it: the same rows and options give the same bytes.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

from adaptiverec.common.errors import StageError
from adaptiverec.pipeline import contract
from adaptiverec.pipeline.input_files import InputFile
from adaptiverec.pipeline.options import PrepareOptions, format_time

__all__ = ["make_metadata"]

_REJECTED = "rejected: "
_DAMAGED = "damaged: "
_SUMS = (
    "num_users",
    "num_interactions",
    "num_train_instances",
    "num_validation_instances",
    "num_test_instances",
    "num_users_without_targets",
)


def make_metadata(
    summary: dict[str, Any],
    options: PrepareOptions,
    num_shards: int,
    files: list[InputFile],
) -> dict[str, Any]:
    """Makes the metadata of a run.

    Args:
        summary: What the job wrote for the driver.
        options: What was asked for.
        num_shards: The number of shards that it came to.
        files: The input files.

    Returns:
        The metadata, ready for JSON.

    Raises:
        StageError: An input file is damaged, nothing is left, the numbers do not agree,
            or a split by time has no points.
    """
    shards, tally = summary["shards"], summary["tally"]
    sums = {key: sum(shard[key] for shard in shards) for key in _SUMS}
    counts, by_reason = _count(tally, sums["num_interactions"])
    _check(counts, by_reason, shards, tally, num_shards)
    shard_files = [
        {key: shard[key] for key in ("file", "num_users", "sha256")} for shard in shards
    ]
    filled = [shard for shard in shards if shard["num_users"]]
    return {
        "schema_version": contract.SCHEMA_VERSION,
        "producer": f"adaptiverec {version('adaptiverec')}",
        "num_users": sums["num_users"],
        "num_items": summary["num_items"],
        **{key: sums[key] for key in _SUMS[1:]},
        "rejected": counts["rejected"],
        "rejected_by_reason": by_reason,
        "counts": counts,
        "time_range": {
            "first": format_time(min(shard["first"] for shard in filled)),
            "last": format_time(max(shard["last"] for shard in filled)),
        },
        "split": _split(options, summary["points"]),
        "sequence_length": {
            "min": min(shard["min_length"] for shard in filled),
            "mean": sums["num_interactions"] / sums["num_users"],
            "max": max(shard["max_length"] for shard in filled),
        },
        "configuration": _configuration(options, num_shards),
        "input_files": [{"path": file.path, "bytes": file.num_bytes} for file in files],
        "vocabulary": {
            "file": contract.VOCABULARY,
            "size": summary["num_items"],
            "sha256": summary["vocabulary_sha256"],
        },
        "shards": shard_files,
        "fingerprint": contract.fingerprint(
            summary["vocabulary_sha256"], [shard["sha256"] for shard in shards]
        ),
    }


def _count(tally: dict[str, int], kept: int) -> tuple[dict[str, int], dict[str, int]]:
    by_reason = {
        key.removeprefix(_REJECTED): count
        for key, count in sorted(tally.items())
        if key.startswith(_REJECTED)
    }
    rows_read = tally.get("rows_read", 0)
    rejected = sum(by_reason.values())
    duplicates = tally.get("duplicates", 0)
    sorted_rows = tally.get("sorted", 0)
    return {
        "rows_read": rows_read,
        "rejected": rejected,
        "duplicates": duplicates,
        "below_min_interactions": sorted_rows - kept,
        "kept": kept,
    }, by_reason


def _check(
    counts: dict[str, int],
    by_reason: dict[str, int],
    shards: list[dict[str, Any]],
    tally: dict[str, int],
    num_shards: int,
) -> None:
    damaged = [
        key.removeprefix(_DAMAGED) for key in sorted(tally) if key.startswith(_DAMAGED)
    ]
    if damaged:
        raise StageError(
            f"An input file must be readable to its end. Received: {'; '.join(damaged)}"
        )
    rest = dict(counts)
    rows_read = rest.pop("rows_read")
    files = [shard["file"] for shard in shards]
    expected = [contract.shard_name(n, num_shards) for n in range(num_shards)]
    if rows_read != sum(rest.values()) or min(rest.values()) < 0 or files != expected:
        raise StageError(
            "Every row read must be rejected, a duplicate, dropped or kept, and every "
            "shard written once; the runner lost or repeated data. Received: "
            f"{counts} and {len(files)} of {num_shards} shards"
        )
    if not counts["kept"]:
        reasons = ", ".join(f"{why}: {count:,}" for why, count in by_reason.items())
        raise StageError(
            "At least one interaction must be left to write. Received: rows read "
            f"{rows_read:,}, rejected {counts['rejected']:,}"
            + (f" ({reasons})" if reasons else "")
            + f", duplicates {counts['duplicates']:,}, of rare users and items "
            f"{counts['below_min_interactions']:,}"
        )


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
    # As JSON has them.
    for name in ("input", "beam_options"):
        configuration[name] = list(configuration[name])
    for name in ("validation_start", "test_start"):
        if configuration[name] is not None:
            configuration[name] = format_time(configuration[name])
    return {**configuration, "num_shards": num_shards}
