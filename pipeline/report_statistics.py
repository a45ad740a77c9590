"""The figures behind the pictures of the data report; exact, in whole numbers."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

__all__ = [
    "Activity",
    "Lengths",
    "Popularity",
    "group_activity",
    "of_lengths",
    "of_popularity",
]

_QUANTILES = (10, 25, 50, 75, 90, 99)
# Lengths that models are usually cut at.
_CUTS = (20, 50, 100, 200)
_MAX_POINTS = 200
_TOP_PERCENT = (1, 10, 20)

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# Spans that a reader thinks in.
_SPANS = (
    (_MINUTE, "1 minute"),
    (5 * _MINUTE, "5 minutes"),
    (15 * _MINUTE, "15 minutes"),
    (_HOUR, "1 hour"),
    (3 * _HOUR, "3 hours"),
    (6 * _HOUR, "6 hours"),
    (12 * _HOUR, "12 hours"),
    (_DAY, "1 day"),
    (7 * _DAY, "7 days"),
    (28 * _DAY, "28 days"),
    (84 * _DAY, "84 days"),
    (364 * _DAY, "364 days"),
)


class Lengths(NamedTuple):
    """How long sequences are.

    Attributes:
        quantiles: ``(percent, length)``: at least so many percent of the users have at
            most that length.
        buckets: ``(least, most, users)`` of lengths in steps of 1, 2, 5, 10, …
        cuts: ``(length, users, interactions)``: users with longer sequences, and how
            many of their interactions are older than the newest ``length``.
        curve: ``(length, users)``: users with at least that length, ascending.
        num_users: All users.
        num_interactions: All their interactions.
    """

    quantiles: list[tuple[int, int]]
    buckets: list[tuple[int, int, int]]
    cuts: list[tuple[int, int, int]]
    curve: list[tuple[int, int]]
    num_users: int
    num_interactions: int


def of_lengths(users_by_length: Mapping[int, int]) -> Lengths:
    """The statistics of sequence lengths.

    Args:
        users_by_length: Number of users of each length; not empty, lengths positive.
    """
    lengths = sorted(users_by_length)
    users = [users_by_length[length] for length in lengths]
    passed = list(accumulate(users))
    total = passed[-1]
    quantiles = [
        (percent, lengths[bisect.bisect_left(passed, -(-total * percent // 100))])
        for percent in _QUANTILES
    ]
    cuts = [
        (
            cut,
            sum(n for length, n in users_by_length.items() if length > cut),
            sum(
                (length - cut) * n
                for length, n in users_by_length.items()
                if length > cut
            ),
        )
        for cut in _CUTS
    ]
    at_least = [total - before for before in (0, *passed[:-1])]
    return Lengths(
        quantiles,
        _buckets(users_by_length),
        cuts,
        _thin(list(zip(lengths, at_least, strict=True))),
        total,
        sum(length * n for length, n in users_by_length.items()),
    )


def _buckets(users_by_length: Mapping[int, int]) -> list[tuple[int, int, int]]:
    edges = [1]
    while edges[-1] <= max(users_by_length):
        # 1, 2, 5, 10, 20, 50, …
        first_digit = int(str(edges[-1])[0])
        edges.append(edges[-1] * 5 // 2 if first_digit == 2 else edges[-1] * 2)
    users = [0] * len(edges)
    for length, number in users_by_length.items():
        users[bisect.bisect_right(edges, length) - 1] += number
    filled = [n for n, number in enumerate(users) if number]
    return [
        (edges[n], edges[n + 1] - 1, users[n]) for n in range(filled[0], filled[-1] + 1)
    ]


def _thin(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most so many points as show in a picture with a logarithmic x axis."""
    if len(points) <= _MAX_POINTS:
        return points
    low, high = math.log(points[0][0]), math.log(points[-1][0])
    chosen: dict[int, tuple[int, int]] = {}
    for point in points:
        place = int((math.log(point[0]) - low) / (high - low) * _MAX_POINTS)
        chosen.setdefault(place, point)
    return list(chosen.values())


class Popularity(NamedTuple):
    """How interactions are spread over items.

    Attributes:
        top: ``(percent, items, interactions)`` of the most popular items, of those that
            occur.
        gini: Gini coefficient over the items that occur: 0 where all are equally
            popular, near 1 where one has everything.
        most: Interactions of the most popular item.
        median: Interactions of the item in the middle, of those that occur.
        num_items: Items that occur.
        num_unseen: Items that do not.
        num_once: Items that occur once.
        num_interactions: All interactions.
        curve: ``(rank, interactions)``, ranks from 1, ascending.
    """

    top: list[tuple[int, int, int]]
    gini: float
    most: int
    median: int
    num_items: int
    num_unseen: int
    num_once: int
    num_interactions: int
    curve: list[tuple[int, int]]


def of_popularity(counts: np.ndarray) -> Popularity | None:
    """The statistics of item popularity.

    Args:
        counts: Interactions of each item, descending, int64 of shape [num_items]; items
            of a base vocabulary may have none.

    Returns:
        None where no item occurs.
    """
    occurring = counts[counts > 0]
    size = len(occurring)
    if not size:
        return None
    passed = np.cumsum(occurring)
    total = int(passed[-1])
    top = []
    for percent in _TOP_PERCENT:
        items = -(-size * percent // 100)
        top.append((percent, items, int(passed[items - 1])))
    # The mean over ranks of the Lorenz curve's distance from the diagonal, doubled.
    ranks = np.arange(1, size + 1)
    gini = float((size + 1 - 2 * np.dot(ranks, occurring / total)) / size)
    shown = np.unique(np.geomspace(1, size, min(size, _MAX_POINTS)).round().astype(int))
    return Popularity(
        top,
        max(gini, 0.0),
        int(occurring[0]),
        int(occurring[size // 2]),
        size,
        len(counts) - size,
        int((occurring == 1).sum()),
        total,
        [(int(rank), int(occurring[rank - 1])) for rank in shown],
    )


class Activity(NamedTuple):
    """Interactions over time.

    Attributes:
        span_seconds: How long a bin of ``counts`` is.
        span: The same in words, such as ``1 day``.
        start: Where the first of them begins, in seconds since 1970-01-01 UTC.
        counts: Interactions in each.
        busiest: The index of the fullest.
        longest_gap: The longest run of the job's own bins without an interaction, in
            seconds.
    """

    span_seconds: int
    span: str
    start: int
    counts: list[int]
    busiest: int
    longest_gap: int


def group_activity(bin_seconds: int, bins: Mapping[int, int]) -> Activity:
    """Groups bins of time to as many as fit a picture.

    Args:
        bin_seconds: How long a bin is.
        bins: Interactions of each bin that has any; bin i begins at ``i * bin_seconds``
            since 1970-01-01 UTC. Not empty.
    """
    # Bins may be few and ages apart, so nothing of their number is made before grouping.
    numbers = sorted(number for number, count in bins.items() if count)
    factor, span = _span(bin_seconds, numbers[-1] - numbers[0] + 1)
    first, last = numbers[0] // factor, numbers[-1] // factor
    counts = [0] * (last - first + 1)
    for number in numbers:
        counts[number // factor - first] += bins[number]
    gaps = (after - before - 1 for before, after in pairwise(numbers))
    return Activity(
        factor * bin_seconds,
        span,
        first * factor * bin_seconds,
        counts,
        counts.index(max(counts)),
        max(gaps, default=0) * bin_seconds,
    )


def _span(bin_seconds: int, num_bins: int) -> tuple[int, str]:
    """How many bins to put together, and what that is in words."""
    for seconds, words in _SPANS:
        factor, rest = divmod(seconds, bin_seconds)
        if not rest and factor and num_bins <= factor * (_MAX_POINTS - 1):
            return factor, words
    factor = -(-num_bins // (_MAX_POINTS - 1))
    seconds = factor * bin_seconds
    unit, name = next(
        (pair for pair in ((_DAY, "days"), (_HOUR, "hours")) if seconds % pair[0] == 0),
        (1, "seconds"),
    )
    return factor, f"{seconds // unit:,} {name}"
