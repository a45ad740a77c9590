"""The sections of the data report that have a picture, and the figures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from adaptiverec.common import report_text as text
from adaptiverec.pipeline.report_charts import (
    draw_activity,
    draw_lengths,
    draw_popularity,
)
from adaptiverec.pipeline.report_statistics import (
    group_activity,
    of_lengths,
    of_popularity,
)

__all__ = [
    "Row",
    "activity_section",
    "lengths_section",
    "popularity_section",
    "width_of",
]


class Row(NamedTuple):
    """A row of a table: a label, a number, its share, and a bar."""

    label: str
    number: str
    share: str
    width: float


def width_of(part: int, whole: int) -> float:
    """Percent for a bar."""
    return round(100 * part / whole, 3) if whole else 0.0


def lengths_section(
    metadata: dict[str, Any], users_by_length: Mapping[Any, int]
) -> dict[str, Any] | None:
    """How long sequences are; None where there are none."""
    # Keys are text where the details have been through JSON.
    found = {int(length): users for length, users in users_by_length.items() if users}
    if not found:
        return None
    lengths = of_lengths(found)
    summary = metadata["sequence_length"]
    quantiles = dict(lengths.quantiles)
    return {
        "chart": draw_lengths(
            lengths,
            "Share of users by length of their sequence",
            f"A falling curve: half of the users have {quantiles[50]:,} interactions or "
            f"fewer, 90 % have {quantiles[90]:,} or fewer, the longest sequence has "
            f"{max(found):,}.",
        ),
        "quantiles": [
            ("shortest", f"{summary['min']:,}"),
            *(
                (f"{percent} % have at most", f"{length:,}")
                for percent, length in lengths.quantiles
            ),
            ("longest", f"{summary['max']:,}"),
            ("mean", f"{summary['mean']:,.2f}"),
        ],
        "buckets": _bucket_rows(lengths.buckets, lengths.num_users),
        "cuts": [
            (
                f"{length:,}",
                text.percent(users, lengths.num_users),
                text.percent(interactions, lengths.num_interactions),
            )
            for length, users, interactions in lengths.cuts
        ],
    }


def _bucket_rows(buckets: list[tuple[int, int, int]], whole: int) -> list[Row]:
    widest = max(users for _, _, users in buckets)
    return [
        Row(
            f"{least:,}" if least == most else f"{least:,} to {most:,}",
            f"{users:,}",
            text.percent(users, whole),
            width_of(users, widest),
        )
        for least, most, users in buckets
    ]


def popularity_section(counts: np.ndarray) -> dict[str, Any] | None:
    """How interactions are spread over items; None where no item has any."""
    popularity = of_popularity(np.asarray(counts, np.int64))
    if popularity is None:
        return None
    shares = [
        (
            f"{percent} %",
            f"{items:,}",
            f"{interactions:,}",
            text.percent(interactions, popularity.num_interactions),
        )
        for percent, items, interactions in popularity.top
    ]
    return {
        "chart": draw_popularity(
            popularity,
            "Interactions of each item, by its rank",
            f"A falling curve on two logarithmic axes: the most popular item has "
            f"{popularity.most:,} interactions, the one in the middle "
            f"{popularity.median:,}. The top 10 % have {shares[1][3]} of all.",
        ),
        "shares": shares,
        "figures": [
            ("most popular item", f"{popularity.most:,}"),
            ("item in the middle", f"{popularity.median:,}"),
            ("items that occur once", f"{popularity.num_once:,}"),
            ("items that do not occur", f"{popularity.num_unseen:,}"),
            ("Gini coefficient", f"{popularity.gini:.3f}"),
        ],
    }


def activity_section(
    metadata: dict[str, Any], details: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Interactions over time; None where the log has no times."""
    if details is None:
        return None
    bins = {int(number): count for number, count in details["bins"].items() if count}
    if not bins:
        return None
    activity = group_activity(int(details["bin_seconds"]), bins)
    points = [
        (
            word,
            metadata["split"].get(name),
            text.seconds_of(metadata["split"].get(name)),
        )
        for word, name in (("validation", "validation_start"), ("test", "test_start"))
    ]
    marks = [(word, int(at)) for word, _, at in points if at is not None]
    busiest = activity.counts[activity.busiest]
    busiest_start = text.moment(
        activity.start + activity.busiest * activity.span_seconds
    )
    ordered = sorted(activity.counts)
    return {
        "span": activity.span,
        "chart": draw_activity(
            activity,
            marks,
            f"Interactions over time, in columns of {activity.span}",
            f"{len(activity.counts):,} columns; the highest, {busiest:,}, begins at "
            f"{busiest_start} UTC.",
        ),
        "figures": [
            ("first", text.value((metadata["time_range"] or {}).get("first"))),
            ("last", text.value((metadata["time_range"] or {}).get("last"))),
            *(
                (f"{word} from", text.visible(shown))
                for word, shown, _ in points
                if shown is not None
            ),
            (f"busiest, from {busiest_start}", f"{busiest:,}"),
            ("median", f"{ordered[len(ordered) // 2]:,}"),
            ("columns without any", f"{activity.counts.count(0):,}"),
            (
                "longest time without any",
                text.in_words(activity.longest_gap)
                if activity.longest_gap
                else f"under {text.in_words(int(details['bin_seconds']))}",
            ),
        ],
    }
