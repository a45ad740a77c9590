import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.pipeline import edge_file
from adaptiverec.pipeline import k_core as k_core_module
from adaptiverec.pipeline.edge_file import EdgeFile
from adaptiverec.pipeline.k_core import InteractionGraph


@pytest.fixture(params=["as it is", "tiny"])
def memory(request, monkeypatch):
    """As much in memory at a time as usual, or next to nothing."""
    if request.param == "tiny":
        monkeypatch.setattr(edge_file, "_AT_ONCE", 5)
        monkeypatch.setattr(edge_file, "_WINDOW", 7)
        monkeypatch.setattr(edge_file, "_READS", 2)
        monkeypatch.setattr(k_core_module, "_SORTED_AT_ONCE", 6)


same_for_all_examples = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def naive(pairs, min_user, min_item):
    """Passes over the whole log until nothing changes."""
    while True:
        users, items = {}, {}
        for user, item in pairs:
            users[user] = users.get(user, 0) + 1
            items[item] = items.get(item, 0) + 1
        kept = [
            (u, i) for u, i in pairs if users[u] >= min_user and items[i] >= min_item
        ]
        if len(kept) == len(pairs):
            return kept
        pairs = kept


def run(pairs, num_users, num_items, min_user, min_item, parts=1):
    """The kept pairs; users are added in so many parts."""
    pairs = sorted(pairs)
    degrees = np.bincount([u for u, _ in pairs], minlength=num_users)
    items = np.array([i for _, i in pairs], np.int32)
    ends = np.cumsum(degrees)
    with InteractionGraph(np.bincount(items, minlength=num_items)) as graph:
        for users in np.array_split(np.arange(num_users), parts):
            first, last = (users[0], users[-1]) if len(users) else (0, -1)
            begin = int(ends[first] - degrees[first]) if len(users) else 0
            end = int(ends[last]) if len(users) else 0
            graph.add(degrees[first : last + 1].astype(np.int32), items[begin:end])
        stays, counts = graph.core(min_user, min_item)
    kept = [(u, i) for u, i in pairs if stays[u] and counts[i]]
    # The counts must be those of the interactions that are left.
    assert (
        counts.tolist()
        == np.bincount(
            np.array([i for _, i in kept], int), minlength=num_items
        ).tolist()
    )
    return kept


@same_for_all_examples
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), max_size=80),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_equals_repeating_until_stable(memory, pairs, min_user, min_item, parts):
    kept = run(pairs, 12, 10, min_user, min_item, parts)
    assert kept == naive(sorted(pairs), min_user, min_item)


@same_for_all_examples
@given(st.integers(0, 10_000))
def test_equals_repeating_until_stable_on_sparse_graphs(memory, seed):
    # Near the threshold, where cascades are long and touch few at a time.
    rng = np.random.default_rng(seed)
    pairs = sorted(
        zip(
            rng.integers(0, 300, 700).tolist(),
            rng.integers(0, 200, 700).tolist(),
            strict=True,
        )
    )
    assert run(pairs, 300, 200, 2, 3, parts=3) == naive(pairs, 2, 3)


def chain(length):
    """User n has items n and n + 1, so each item but the first has two users."""
    pairs = [(n, item) for n in range(length) for item in (n, n + 1)]
    # Three users with the same two items: the part that stays.
    return pairs + [
        (length + n, item) for n in range(3) for item in (length + 1, length + 2)
    ]


def test_a_long_chain_falls_one_by_one():
    # Item 0 has one user, whose leaving makes item 1 rare, and so on to the end.
    kept = run(chain(2000), 2003, 2003, 2, 2)
    assert {u for u, _ in kept} == {2000, 2001, 2002}


def test_the_cost_of_a_chain_is_linear(monkeypatch):
    # Passes over the log would look at 1,001 times as many.
    visited, scanned = [], []
    gather = EdgeFile.gather
    scan = k_core_module._Side.drop_below_minimum

    def counting_gather(self, starts, lengths):
        visited.append(int(lengths.sum()))
        return gather(self, starts, lengths)

    def counting_scan(self):
        scanned.append(len(self.degrees))
        return scan(self)

    monkeypatch.setattr(EdgeFile, "gather", counting_gather)
    monkeypatch.setattr(k_core_module._Side, "drop_below_minimum", counting_scan)
    pairs = chain(2000)
    run(pairs, 2003, 2003, 2, 2)
    assert len(visited) > 1000
    assert sum(visited) <= 2 * len(pairs)
    assert sum(scanned) <= 2 * len(pairs)


def test_one_item_with_most_of_the_interactions(memory):
    # More than is sorted at a time, between items that fall.
    pairs = [(user, item) for user in range(40) for item in (3, 3, 7, 10 + user)]
    assert run(pairs, 40, 50, 3, 2, parts=2) == naive(sorted(pairs), 3, 2)
    assert run(pairs, 40, 50, 4, 2, parts=2) == []


def test_interactions_must_be_those_of_the_items():
    with InteractionGraph(np.array([2, 1])) as graph:
        graph.add(np.array([2]), np.array([0, 1], np.int32))
        with pytest.raises(RuntimeError, match="Received: 2 of users, 3 of items"):
            graph.core(1, 1)


def test_nothing_is_left_on_the_disk(tmp_path):
    with InteractionGraph(np.array([2, 2]), str(tmp_path)) as graph:
        graph.add(np.array([2, 1, 1]), np.array([0, 1, 0, 1], np.int32))
        assert list(tmp_path.iterdir()) == []
        graph.core(2, 2)
        assert list(tmp_path.iterdir()) == []


@given(
    st.lists(st.integers(0, 100), max_size=50),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=20),
)
def test_ranges_are_gathered_in_parts(values, ranges):
    ranges = sorted((s, min(n, len(values) - s)) for s, n in ranges if s < len(values))
    with pytest.MonkeyPatch.context() as patch, EdgeFile() as file:
        patch.setattr(edge_file, "_AT_ONCE", 4)
        patch.setattr(edge_file, "_WINDOW", 9)
        patch.setattr(edge_file, "_READS", 3)
        for part in (values[:7], values[7:]):
            file.append(np.array(part, np.int32))
        assert len(file) == len(values)
        starts = np.array([s for s, _ in ranges], np.int64)
        lengths = np.array([n for _, n in ranges], np.int64)
        parts = [part.tolist() for part in file.gather(starts, lengths)]
        assert list(itertools.chain(*parts)) == [
            v for s, n in ranges for v in values[s : s + n]
        ]
        assert all(len(part) <= 4 for part in parts)
        assert np.concatenate([[], *file.chunks()]).tolist() == values


def test_repeats_count():
    # Three times the same item by one user is three interactions of both.
    assert run([(0, 0)] * 3, 1, 1, 3, 3) == [(0, 0)] * 3
    assert run([(0, 0)] * 3, 1, 1, 4, 1) == []


@pytest.mark.parametrize(("users", "items"), [(0, 0), (3, 0), (0, 3)])
def test_nothing_in_nothing_out(users, items):
    assert run([], users, items, 1, 1) == []
