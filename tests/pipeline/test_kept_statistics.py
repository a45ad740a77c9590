from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline.kept_sequences import KeptSequences
from adaptiverec.pipeline.kept_statistics import Activity, AddUpStatistics, Statistics

SECOND = 1_000_000
HOUR, DAY = 3600, 86_400
# The finest first; each divides the next.
WIDTHS = [1, 10, 60, 600, HOUR, 6 * HOUR]
WIDTHS += [days * DAY for days in (1, 8, 32, 256, 2048, 16_384, 131_072)]


def expected(times):
    """The finest width with at most 4,096 bins, and what is in them."""
    for width in WIDTHS:
        bins = Counter(time // SECOND // width for time in times)
        if max(bins) - min(bins) + 1 <= 4096:
            return width, dict(bins)
    raise AssertionError


times = st.one_of(
    st.integers(0, 10_000 * SECOND),
    st.integers(-DAY * SECOND, DAY * SECOND),
    st.integers(0, 3000 * DAY * SECOND),
    st.integers(-(2**63), 2**63 - 1),
)


@given(st.lists(st.lists(times, min_size=1, max_size=9), min_size=1, max_size=6))
def test_activity_is_the_same_however_it_is_spread(parts):
    found = None
    for part in parts:
        piece = Activity.of(np.array(part, np.int64))
        assert (piece.bin_seconds, piece.bins) == expected(part)
        found = piece if found is None else found + piece
    assert (found.bin_seconds, found.bins) == expected([t for p in parts for t in p])


@pytest.mark.parametrize(
    ("seconds", "width"),
    [(4095, 1), (4096, 10), (40_959, 10), (40_960, 60), (4095 * 256 * DAY, 256 * DAY)],
)
def test_the_ladder(seconds, width):
    assert Activity.of(np.array([0, seconds * SECOND])).bin_seconds == width


sequence = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9)), min_size=1)


def statistics_of(users, times=True):
    statistics = Statistics.none(6)
    for mine in users:
        kept = KeptSequences(
            pa.array(["u"]),
            np.array([0, len(mine)]),
            np.array([item for item, _ in mine], np.int32),
            np.array([time * SECOND for _, time in mine]),
        )
        statistics.add(kept, np.array([len(mine) // 2]), times=times)
    return statistics


@given(st.lists(sequence, max_size=8), st.integers(0, 8))
def test_descriptions_add_up(users, cut):
    combine = AddUpStatistics()
    empty = combine.create_accumulator()
    first = combine.add_input(empty, statistics_of(users[:cut]))
    second = combine.add_input(empty, statistics_of(users[cut:]))
    total = combine.extract_output(combine.merge_accumulators([first, empty, second]))
    assert total.lengths == Counter(len(mine) for mine in users)
    in_training = Counter(item for mine in users for item, _ in mine[: len(mine) // 2])
    assert total.train_interactions.tolist() == [in_training[n] for n in range(1, 7)]
    seconds = [time for mine in users for _, time in mine]
    if users:
        assert total.activity.bins == Counter(seconds)
    else:
        assert total.activity is None


def test_adding_up_changes_nothing_that_was_added():
    combine = AddUpStatistics()
    first, second = statistics_of([[(1, 1), (2, 2)]]), statistics_of([[(3, 3), (4, 4)]])
    accumulator = combine.add_input(combine.create_accumulator(), first)
    combine.add_input(accumulator, second)
    assert first.lengths == {2: 1}
    assert first.train_interactions.tolist() == [1, 0, 0, 0, 0, 0]


def test_without_times_there_is_no_activity():
    assert statistics_of([[(1, 0)]], times=False).activity is None
