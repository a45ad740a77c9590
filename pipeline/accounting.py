"""The account of all rows: what became of each, and the checks that nothing is missing."""

from __future__ import annotations

from typing import Any, NamedTuple

from adaptiverec.common.errors import StageError
from adaptiverec.pipeline import contract

__all__ = ["RowCounts", "check_rejected_fraction", "check_shards", "count_rows"]

_REJECTED = "rejected: "
_FILTERED = "filtered: "
_DAMAGED = "damaged: "


class RowCounts(NamedTuple):
    """What became of the rows.

    Attributes:
        totals: ``rows_read``, and what became of them in the order of the rules:
            ``rejected``, ``filtered``, ``duplicates``, ``repeats``,
            ``over_max_user_interactions``, ``below_min_interactions`` and ``kept``,
            which add up to it.
        rejected_by_reason: The rejected rows.
        filtered_by_rule: The filtered rows.
    """

    totals: dict[str, int]
    rejected_by_reason: dict[str, int]
    filtered_by_rule: dict[str, int]


def count_rows(tally: dict[str, int], kept: int) -> RowCounts:
    """Draws up the account.

    Args:
        tally: What the steps counted, see :mod:`adaptiverec.pipeline.job`.
        kept: Interactions in the shards.

    Raises:
        StageError: An input file is damaged, or the numbers do not add up.
    """
    damaged = _part(tally, _DAMAGED)
    if damaged:
        raise StageError(
            f"An input file must be readable to its end. Received: {'; '.join(damaged)}"
        )
    rejected, filtered = _part(tally, _REJECTED), _part(tally, _FILTERED)
    totals = {
        "rows_read": tally.get("rows_read", 0),
        "rejected": sum(rejected.values()),
        "filtered": sum(filtered.values()),
        "duplicates": tally.get("duplicates", 0),
        "repeats": tally.get("repeats", 0),
        "over_max_user_interactions": tally.get("over_max_user_interactions", 0),
        "below_min_interactions": tally.get("sorted", 0) - kept,
        "kept": kept,
    }
    rows_read, *rest = totals.values()
    if rows_read != sum(rest) or min(rest) < 0:
        raise StageError(
            "Every row read must be rejected, filtered, a duplicate, dropped or kept; "
            f"the runner lost or repeated data. Received: {totals}"
        )
    return RowCounts(totals, rejected, filtered)


def _part(tally: dict[str, int], prefix: str) -> dict[str, int]:
    return {
        key.removeprefix(prefix): count
        for key, count in sorted(tally.items())
        if key.startswith(prefix)
    }


def check_rejected_fraction(
    counts: RowCounts, examples: dict[str, list[dict[str, Any]]], limit: float
) -> None:
    """Raises where too many rows were rejected, or none is left.

    Args:
        counts: The account.
        examples: Rejected rows by reason, dicts of file, offset and row.
        limit: The largest part of the rows that may be rejected.

    Raises:
        StageError: It is exceeded, or no interaction is kept.
    """
    totals = counts.totals
    rows_read, rejected = totals["rows_read"], totals["rejected"]
    by_reason = ", ".join(
        f"{reason}: {count:,}" for reason, count in counts.rejected_by_reason.items()
    )
    if rejected > limit * rows_read:
        shown = "; ".join(
            f"{reason}: {row['row']!r} at {row['offset']} of {row['file']}"
            for reason, (row, *_) in sorted(examples.items())
        )
        raise StageError(
            "The part of the rows that is rejected must be at most "
            f"`max_rejected_fraction`, which is {limit}. Received: "
            f"{rejected / rows_read:.4f}, {rejected:,} of {rows_read:,} rows "
            f"({by_reason}), such as {shown}"
        )
    if not totals["kept"]:
        raise StageError(
            "At least one interaction must be left to write. Received: rows read "
            f"{rows_read:,}, rejected {rejected:,}"
            + (f" ({by_reason})" if by_reason else "")
            + "".join(
                f", {name} {totals[key]:,}"
                for key, name in (
                    ("filtered", "filtered"),
                    ("duplicates", "duplicates"),
                    ("repeats", "repeats"),
                    ("over_max_user_interactions", "beyond a user's maximum"),
                    ("below_min_interactions", "of rare users and items"),
                )
                if totals[key] or key in ("duplicates", "below_min_interactions")
            )
        )


def check_shards(summary: dict[str, Any]) -> None:
    """Raises unless every shard was written once, with all that stays.

    Args:
        summary: What the job wrote for the driver.

    Raises:
        StageError: The runner lost or repeated data.
    """
    num_shards = summary["num_shards"]
    files = [shard["file"] for shard in summary["shards"]]
    written = sum(shard["num_interactions"] for shard in summary["shards"])
    stays = summary["core_interactions"]
    compression = "gzip" if files and files[0].endswith(".gz") else "none"
    names = [contract.shard_name(n, num_shards, compression) for n in range(num_shards)]
    if files != names or written != stays:
        raise StageError(
            "Every shard must be written once, with all interactions that stay; the "
            f"runner lost or repeated data. Received: {len(files)} of {num_shards} "
            f"shards, {written:,} of {stays:,} interactions"
        )
