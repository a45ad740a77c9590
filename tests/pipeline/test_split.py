import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline.split import (
    SplitPoints,
    TimeHistogram,
    TimeRange,
    merge_histograms,
    merge_ranges,
    split_points,
    split_sequences,
)

# Users with 1, 2, 3 and 5 interactions.
OFFSETS = np.array([0, 1, 3, 6, 11])
TIMES = np.array([5, 1, 9, 1, 5, 9, 1, 2, 3, 4, 9])


def ends(method, points=None):
    train, validation = split_sequences(method, OFFSETS, TIMES, points)
    return train.tolist(), validation.tolist()


def test_leave_one_out():
    assert ends("leave-one-out") == ([1, 2, 1, 3], [1, 2, 2, 4])


def test_none():
    assert ends("none") == ([1, 2, 3, 5], [1, 2, 3, 5])


def test_time():
    # The points themselves belong to the later part.
    assert ends("time", SplitPoints(4, 9)) == ([0, 1, 1, 3], [1, 1, 2, 4])
    assert ends("time", SplitPoints(-5, 2**63)) == ([0, 0, 0, 0], [1, 2, 3, 5])


def histogram_points(*parts):
    ranges = [
        TimeRange(min(part), max(part)) if part else None for part in parts if part
    ]
    time_range = merge_ranges(ranges)
    pieces = [TimeHistogram.of(np.array(p, np.int64), time_range) for p in parts if p]
    return split_points(merge_histograms(pieces))


def test_points_of_small_ranges_are_exact():
    # Up to 65,536 different microseconds, a bin is one microsecond. Of 10 times, 8
    # have passed before 7 + 1, and 9 before 8 + 1.
    assert histogram_points([0, 1, 2, 3, 4], [5, 6, 7], [8, 9]) == (8, 9)
    assert histogram_points(list(range(5, 25))) == (21, 23)


def test_points_of_one_time_fall_together():
    assert histogram_points([7, 7, 7]) == (8, 8)
    assert split_points(merge_histograms([])) is None
    assert merge_ranges([]) is None


times = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(times, min_size=1, max_size=40), st.data())
def test_points_are_quantiles_to_a_bin(values, data):
    cut = data.draw(st.integers(0, len(values)))
    points = histogram_points(values[:cut], values[cut:])
    assert points == histogram_points(sorted(values))
    width = -(-(max(values) - min(values) + 1) // 65_536)
    for tenths, point in zip((8, 9), points, strict=True):
        assert sum(value < point for value in values) * 10 >= tenths * len(values)
        # One bin earlier would be too early.
        before = sum(value < point - width for value in values)
        assert before * 10 < tenths * len(values)


@pytest.mark.parametrize("values", [[0], [2**63 - 1], [-(2**63), 2**63 - 1]])
def test_extreme_times(values):
    validation, test = histogram_points(values)
    assert validation <= test
    split_sequences(
        "time",
        np.array([0, len(values)]),
        np.array(values),
        SplitPoints(validation, test),
    )
