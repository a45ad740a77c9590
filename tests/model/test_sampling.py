"""Draws and counts do not depend on how the sequences are cut into blocks."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from adaptiverec.model import baselines
from adaptiverec.model.instances import Instances
from adaptiverec.model.sampling import sample_instances, sample_users
from adaptiverec.model.sequences import Sequences, windows

NUM_ITEMS = 6


class Cut:
    """Sequences in blocks of so many users."""

    def __init__(self, sequences: Sequences, size: int) -> None:
        self.sequences = sequences
        self.num_train_instances = sequences.num_train_instances
        self._size = size

    def blocks(self):
        users = np.arange(self.sequences.num_users)
        for start in range(0, len(users), self._size):
            yield self.sequences.of_users(users[start : start + self._size])


@pytest.fixture(scope="module")
def make(random_users, sequences_of):
    return lambda seed: sequences_of(random_users(30, NUM_ITEMS, seed))


def test_blocks_joined_are_the_whole(make) -> None:
    whole = make(1)
    for size in (1, 7, 100):
        joined = Sequences.joined(list(Cut(whole, size).blocks()))
        for field in dataclasses.fields(whole):
            one, other = (getattr(each, field.name) for each in (whole, joined))
            np.testing.assert_array_equal(one, other)
            assert other.dtype == (np.int32 if field.name == "items" else np.int64)


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 31),
    count=st.integers(0, 300),
    part=st.sampled_from(["train", "validation", "test"]),
)
def test_draws_are_those_of_the_whole(make, seed, size, count, part) -> None:
    whole = make(seed)
    cut = Cut(whole, size)

    def instances(source):
        return sample_instances(
            source,
            count,
            num_items=NUM_ITEMS,
            max_length=3,
            generator=np.random.default_rng(seed),
        )

    for one, other in zip(instances(whole), instances(cut), strict=True):
        np.testing.assert_array_equal(one, other)
    ways = [
        sample_users(source, part, count, np.random.default_rng(seed))
        for source in (whole, cut)
    ]
    (users, number), (again, number_again) = ways
    assert number == number_again == len(set(Instances.of(whole, part).starts.tolist()))
    assert users.num_users == min(count, number)
    for field in dataclasses.fields(users):
        np.testing.assert_array_equal(
            *(getattr(drawn, field.name) for drawn in (users, again))
        )


def test_partners_are_others_and_each_as_likely() -> None:
    # The targets 1 and 2, of ten instances each, told apart by their histories.
    items = np.stack([np.arange(3, 23), np.repeat([1, 2], 10)], axis=1).reshape(-1)
    starts = np.arange(0, 41, 2)
    sequences = Sequences(items.astype(np.int32), starts, starts[1:], starts[1:])
    steps = np.zeros(10, int)
    for seed in range(60):
        sample = sample_instances(
            Cut(sequences, 7),
            20,
            num_items=30,
            max_length=1,
            generator=np.random.default_rng(seed),
        )
        mine, other = sample.item_ids[:, 0] - 3, sample.same_target_item_ids[:, 0] - 3
        assert np.all(mine // 10 == other // 10)
        steps += np.bincount((other - mine) % 10, minlength=10)
    assert steps[0] == 0
    assert np.all(abs(steps[1:] - 1200 / 9) < 50)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_baselines_count_block_by_block(make, monkeypatch, size) -> None:
    monkeypatch.setattr(baselines, "_PAIRS_AT_ONCE", 3)
    whole = make(2)
    last_items = np.arange(1, NUM_ITEMS + 1)
    cut = baselines.LastItemFollowers(Cut(whole, size), NUM_ITEMS)
    # Counted one by one.
    expected = np.zeros((NUM_ITEMS + 1, NUM_ITEMS + 1))
    for start, end in zip(whole.starts, whole.train_ends, strict=False):
        for place in range(start + 1, end):
            expected[whole.items[place - 1], whole.items[place]] += 1
    # What did not follow has less than one.
    np.testing.assert_array_equal(
        np.floor(cut.scores(last_items)[:, 1:]), expected[1:, 1:]
    )
    popularity = baselines.Popularity(Cut(whole, size), NUM_ITEMS)
    training = np.concatenate(
        [
            whole.items[start:end]
            for start, end in zip(whole.starts, whole.train_ends, strict=False)
        ]
    )
    counts = np.bincount(training, minlength=NUM_ITEMS + 1)[1:]
    np.testing.assert_array_equal(popularity.counts, counts)
    assert popularity.counts.dtype == np.int64


def test_windows_are_padded_at_the_end() -> None:
    items = np.arange(1, 7, dtype=np.int32)
    rows = windows(items, np.array([0, 4, 5]), np.array([3, 6, 5]), 3)
    assert rows.tolist() == [[1, 2, 3], [5, 6, 0], [0, 0, 0]]
    assert windows(items[:0], np.array([], int), np.array([], int), 2).shape == (0, 2)
