"""What the report and the popularity table say of the kept sequences.

Each shard is described by itself; descriptions add up, to the same whatever the shards.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterable

import apache_beam as beam
import numpy as np

from adaptiverec.pipeline.kept_sequences import KeptSequences

__all__ = ["Activity", "AddUpStatistics", "Statistics"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Each divides the next, so that finer bins add up to coarser ones. With the last, any
# times that a number can hold are few enough.
_LADDER = (
    *(1, 10, _MINUTE, 10 * _MINUTE, _HOUR, 6 * _HOUR, _DAY),
    *(8 * _DAY, 32 * _DAY, 256 * _DAY, 2048 * _DAY, 16_384 * _DAY, 131_072 * _DAY),
)
_MAX_BINS = 4096
_SECOND = 1_000_000


@dataclasses.dataclass(frozen=True)
class Activity:
    """Interactions over time, in the finest bins of a ladder that are few enough.

    The width follows from the first and the last time alone: it is the same however
    the times are spread over shards.

    Attributes:
        bin_seconds: Width of a bin.
        bins: Interactions by bin: bin i covers ``[i, i + 1) * bin_seconds`` since
            1970-01-01 UTC.
    """

    bin_seconds: int
    bins: dict[int, int]

    @classmethod
    def of(cls, times: np.ndarray) -> Activity:
        """Counts times, int64 of shape [n] and at least one, in microseconds."""
        seconds = times // _SECOND
        first, last = int(seconds.min()), int(seconds.max())
        width = _width(first, last)
        counts = np.bincount(seconds // width - first // width)
        return cls(width, _occurring(counts, first // width))

    def __add__(self, other: Activity) -> Activity:
        starts = [
            index * part.bin_seconds
            for part in (self, other)
            for index in (min(part.bins), max(part.bins))
        ]
        width = _width(min(starts), max(starts), self.bin_seconds, other.bin_seconds)
        bins: dict[int, int] = {}
        for part in (self, other):
            for index, count in part.bins.items():
                wider = index * part.bin_seconds // width
                bins[wider] = bins.get(wider, 0) + count
        return Activity(width, dict(sorted(bins.items())))


def _width(first: int, last: int, *at_least: int) -> int:
    """The finest width with few enough bins from second ``first`` to ``last``."""
    for width in _LADDER:
        if (
            width >= max(at_least, default=1)
            and last // width - first // width < _MAX_BINS
        ):
            break
    return width


def _occurring(counts: np.ndarray, first: int = 0) -> dict[int, int]:
    """The counts of ``first`` and what follows that are not 0."""
    values = np.flatnonzero(counts)
    return dict(zip((values + first).tolist(), counts[values].tolist(), strict=True))


@dataclasses.dataclass
class Statistics:
    """A description of sequences; descriptions add up in place.

    Attributes:
        lengths: Number of users by length of sequence.
        activity: Interactions over time; None without any, or without times.
        train_interactions: Interactions in training parts, int64 [num_items]; those of
            the dense id n at n - 1.
    """

    lengths: Counter[int]
    activity: Activity | None
    train_interactions: np.ndarray

    @classmethod
    def none(cls, num_items: int) -> Statistics:
        """The description of nothing."""
        return cls(Counter(), None, np.zeros(num_items, np.int64))

    def add(self, kept: KeptSequences, train_ends: np.ndarray, *, times: bool) -> None:
        """Adds sequences.

        Args:
            kept: The sequences of U users.
            train_ends: End of the training part in each, int64 of shape [U].
            times: Whether their times mean anything.
        """
        if not len(kept):
            return
        lengths = np.diff(kept.offsets)
        self.lengths.update(_occurring(np.bincount(lengths)))
        in_training = np.arange(len(kept.items)) < np.repeat(
            kept.offsets[:-1] + train_ends, lengths
        )
        size = len(self.train_interactions)
        self.train_interactions += np.bincount(
            kept.items[in_training] - 1, minlength=size
        )
        if times:
            self._add_activity(Activity.of(kept.times))

    def __iadd__(self, other: Statistics) -> Statistics:
        self.lengths.update(other.lengths)
        self.train_interactions += other.train_interactions
        if other.activity is not None:
            self._add_activity(other.activity)
        return self

    def _add_activity(self, activity: Activity) -> None:
        self.activity = activity if self.activity is None else self.activity + activity


class AddUpStatistics(beam.CombineFn):
    """Adds up descriptions; None where there is none."""

    def create_accumulator(self) -> Statistics | None:  # noqa: D102
        return None

    def add_input(  # noqa: D102
        self, accumulator: Statistics | None, element: Statistics
    ) -> Statistics:
        if accumulator is None:
            return copy.deepcopy(element)
        accumulator += element
        return accumulator

    def merge_accumulators(  # noqa: D102
        self, accumulators: Iterable[Statistics | None]
    ) -> Statistics | None:
        total = None
        for accumulator in accumulators:
            if accumulator is not None:
                total = self.add_input(total, accumulator)
        return total

    def extract_output(self, accumulator: Statistics | None) -> Statistics | None:  # noqa: D102
        return accumulator
