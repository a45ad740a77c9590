import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline import k_core as k_core_module
from adaptiverec.pipeline.k_core import k_core


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


def run(pairs, num_users, num_items, min_user, min_item):
    pairs = sorted(pairs)
    degrees = np.bincount([u for u, _ in pairs], minlength=num_users)
    items = np.array([i for _, i in pairs], np.int32)
    stays, counts = k_core(degrees, items, num_items, min_user, min_item)
    kept = [(u, i) for u, i in pairs if stays[u] and counts[i]]
    # The counts must be those of the interactions that are left.
    assert (
        counts.tolist()
        == np.bincount(
            np.array([i for _, i in kept], int), minlength=num_items
        ).tolist()
    )
    return kept


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), max_size=80),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_equals_repeating_until_stable(pairs, min_user, min_item):
    kept = run(pairs, 12, 10, min_user, min_item)
    # Users without interactions are not in the log at all.
    assert kept == naive(sorted(pairs), min_user, min_item)


@given(st.integers(0, 10_000))
def test_equals_repeating_until_stable_on_sparse_graphs(seed):
    # Near the threshold, where cascades are long and touch few at a time.
    rng = np.random.default_rng(seed)
    pairs = sorted(
        zip(
            rng.integers(0, 300, 700).tolist(),
            rng.integers(0, 200, 700).tolist(),
            strict=True,
        )
    )
    assert run(pairs, 300, 200, 2, 3) == naive(pairs, 2, 3)


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
    edges_of, scan = (
        k_core_module._Side.edges_of,
        k_core_module._Side.drop_below_minimum,
    )

    def counting_edges_of(self, nodes, neighbours):
        found = edges_of(self, nodes, neighbours)
        visited.append(len(found))
        return found

    def counting_scan(self):
        scanned.append(len(self.degrees))
        return scan(self)

    monkeypatch.setattr(k_core_module._Side, "edges_of", counting_edges_of)
    monkeypatch.setattr(k_core_module._Side, "drop_below_minimum", counting_scan)
    pairs = chain(2000)
    run(pairs, 2003, 2003, 2, 2)
    assert sum(visited) <= 2 * len(pairs)
    assert sum(scanned) <= 2 * len(pairs)


def test_repeats_count():
    # Three times the same item by one user is three interactions of both.
    assert run([(0, 0)] * 3, 1, 1, 3, 3) == [(0, 0)] * 3
    assert run([(0, 0)] * 3, 1, 1, 4, 1) == []


@pytest.mark.parametrize(("users", "items"), [(0, 0), (3, 0), (0, 3)])
def test_nothing_in_nothing_out(users, items):
    assert run([], users, items, 1, 1) == []
