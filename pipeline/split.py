"""Which part of each sequence is for training, for validation and for the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

__all__ = [
    "SplitPoints",
    "TimeHistogram",
    "TimeRange",
    "merge_histograms",
    "merge_ranges",
    "points_of_last_days",
    "split_points",
    "split_sequences",
]

_NUM_BINS = 65_536
# Leave-one-out needs something to learn from besides its two targets.
_MIN_INTERACTIONS = 3


class SplitPoints(NamedTuple):
    """Two times, in microseconds since 1970-01-01 UTC."""

    validation_start: int
    test_start: int


class TimeRange(NamedTuple):
    """The first and the last time there is."""

    first: int
    last: int


def split_sequences(
    method: str,
    offsets: np.ndarray,
    times: np.ndarray,
    points: SplitPoints | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits sequences.

    Args:
        method: ``leave-one-out``, ``time`` or ``none``.
        offsets: int64 of shape [num_users + 1]: user u has the interactions
            ``offsets[u]:offsets[u + 1]``.
        times: int64 of shape [n], ascending within each user.
        points: What ``time`` splits by.

    Returns:
        ``(train_ends, validation_ends)``, int64 of shape [num_users] each, counted
        within the sequence.
    """
    lengths = np.diff(offsets)
    if method == "leave-one-out":
        enough = lengths >= _MIN_INTERACTIONS
        return np.where(enough, lengths - 2, lengths), np.where(
            enough, lengths - 1, lengths
        )
    if method == "none":
        return lengths, lengths
    if points is None:
        raise RuntimeError("A split by time needs its points")

    def before(point: int) -> np.ndarray:
        passed = np.concatenate(([0], np.cumsum(times < point)))
        return passed[offsets[1:]] - passed[offsets[:-1]]

    return before(points.validation_start), before(points.test_start)


@dataclasses.dataclass(frozen=True)
class TimeHistogram:
    """How many interactions fall in each of 65,536 equal parts of a time range.

    Attributes:
        first: Where the first part begins.
        width: Length of each part in microseconds.
        counts: int64 of shape [65,536].
    """

    first: int
    width: int
    counts: np.ndarray

    @classmethod
    def of(cls, times: np.ndarray, time_range: TimeRange) -> TimeHistogram:
        """Counts times, int64 of shape [n], that lie in the range."""
        first, last = time_range
        width = -(-(last - first + 1) // _NUM_BINS)
        # Unsigned: the distance of two int64 may need 64 bits.
        since = times.astype(np.uint64) - np.uint64(first % 2**64)
        bins = (since // np.uint64(width)).astype(np.int64)
        return cls(first, width, np.bincount(bins, minlength=_NUM_BINS))


def merge_ranges(ranges: Iterable[TimeRange | None]) -> TimeRange | None:
    """The range that covers all; None stands for no times at all."""
    known = [time_range for time_range in ranges if time_range is not None]
    if not known:
        return None
    return TimeRange(min(r[0] for r in known), max(r[1] for r in known))


def merge_histograms(
    histograms: Iterable[TimeHistogram | None],
) -> TimeHistogram | None:
    """The sum of histograms of one range; None stands for no times at all."""
    total: TimeHistogram | None = None
    for histogram in histograms:
        if total is None or histogram is None:
            total = total or histogram
        else:
            total = dataclasses.replace(total, counts=total.counts + histogram.counts)
    return total


def split_points(histogram: TimeHistogram | None) -> SplitPoints | None:
    """The first edges of the histogram before which 80 % and 90 % of the times lie."""
    if histogram is None:
        return None
    passed = np.cumsum(histogram.counts)
    total = int(passed[-1])
    # In integers, 10 * passed >= 8 * total: no rounding decides.
    edges = [
        int(np.searchsorted(passed, -(-tenths * total // 10))) + 1 for tenths in (8, 9)
    ]
    return SplitPoints(*(histogram.first + edge * histogram.width for edge in edges))


def points_of_last_days(
    time_range: TimeRange | None, validation: int, test: int
) -> SplitPoints | None:
    """The points that make the last part of a time range the test part.

    The test part is ``(last - test, last]``, so that it is ``test`` microseconds long
    and ends with the last time there is; the validation part is the ``validation``
    microseconds before it.

    Args:
        time_range: The times there are; None stands for none at all.
        validation: Length of the validation part in microseconds.
        test: Length of the test part in microseconds.
    """
    if time_range is None:
        return None
    test_start = time_range.last - test + 1
    return SplitPoints(test_start - validation, test_start)
