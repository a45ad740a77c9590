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
    points_of_last_days,
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


def test_last_days():
    # Days are given in microseconds. Of the times 0 to 9, the last 3 are the test's and
    # the 4 before them are for validation.
    points = points_of_last_days(TimeRange(0, 9), 4, 3)
    assert points == (3, 7)
    assert ends_of(list(range(10)), points) == (3, 7)
    # A log shorter than its last days has nothing to train on.
    points = points_of_last_days(TimeRange(5, 9), 40, 3)
    assert ends_of([5, 6, 7, 8, 9], points) == (0, 2)
    assert points_of_last_days(None, 1, 1) is None


def ends_of(times, points):
    train, validation = split_sequences(
        "time", np.array([0, len(times)]), np.array(times), points
    )
    return train[0], validation[0]


@given(
    st.lists(st.integers(-100, 100), min_size=1),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_last_days_are_as_long_as_they_say(values, validation, test):
    values.sort()
    last = values[-1]
    points = points_of_last_days(TimeRange(values[0], last), validation, test)
    train_end, validation_end = ends_of(values, points)
    assert values[validation_end:] == [v for v in values if v > last - test]
    assert values[:train_end] == [v for v in values if v <= last - test - validation]


def test_last_days_before_the_first_time_a_number_holds():
    lowest = -(2**63)
    points = points_of_last_days(TimeRange(lowest, lowest), 10, 10)
    assert ends_of([lowest], points) == (0, 0)
