"""Batches streamed from shards: the instances of memory, in an order of their own."""

import collections
import itertools
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common.errors import ContractError, InvalidValueError
from adaptiverec.model import prepared_data, stream_batches
from adaptiverec.model.instances import evaluation_dataset, training_dataset
from adaptiverec.model.run_data import naming_damaged_shards
from adaptiverec.model.streaming import (
    streaming_evaluation_dataset,
    streaming_training_dataset,
)

NUM_ITEMS = 9


@pytest.fixture(scope="module")
def users(random_users):
    return random_users(300, NUM_ITEMS)


@pytest.fixture(scope="module")
def prepared(users, write_prepared, tmp_path_factory):
    path = tmp_path_factory.mktemp("streaming") / "data"
    return write_prepared(path, users, num_items=NUM_ITEMS, num_shards=3)


def rows_of(dataset) -> list[tuple]:
    """Of each instance its history, its partner's, and its target or targets."""
    return [
        (
            *(tuple(inputs[name].numpy()[row].tolist()) for name in sorted(inputs)),
            str(targets.numpy()[row].tolist()),
        )
        for inputs, targets in dataset
        for row in range(len(targets))
    ]


def without_partners(rows: list[tuple]) -> collections.Counter:
    return collections.Counter((row[0], row[-1]) for row in rows)


@pytest.mark.parametrize("instances", ["prefixes", "sequences"])
@pytest.mark.parametrize(
    ("compression", "shuffle_buffer"),
    [("none", 1), ("gzip", 100), ("none", 100), ("none", 10_000)],
)
def test_an_epoch_has_the_instances_of_memory(
    users, write_prepared, tmp_path, instances, compression, shuffle_buffer
) -> None:
    prepared = write_prepared(
        tmp_path / "data",
        users,
        num_items=NUM_ITEMS,
        num_shards=4,
        compression=compression,
    )
    options = {"max_length": 5, "batch_size": 32, "instances": instances}
    memory = training_dataset(prepared.sequences(), **options)
    streamed = streaming_training_dataset(
        prepared, shuffle_buffer=shuffle_buffer, **options
    )
    assert streamed.element_spec == memory.element_spec
    assert streamed.cardinality() == memory.cardinality()
    rows = rows_of(streamed)
    assert without_partners(rows) == without_partners(rows_of(memory))
    sizes = [len(targets) for _, targets in streamed]
    assert set(sizes[:-1]) == {32}
    assert 0 < sizes[-1] <= 32


USERS = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=6).flatmap(
        lambda items: st.tuples(
            st.just(items),
            st.integers(0, len(items)),
            st.integers(0, len(items)),
        ).map(lambda user: (user[0], min(user[1:]), max(user[1:])))
    ),
    min_size=1,
    max_size=12,
)


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    users=USERS,
    num_shards=st.integers(1, 3),
    max_length=st.integers(1, 4),
    batch_size=st.integers(1, 5),
    shuffle_buffer=st.integers(1, 30),
    instances=st.sampled_from(["prefixes", "sequences"]),
)
def test_whatever_the_users_and_sizes(
    write_prepared,
    users,
    num_shards,
    max_length,
    batch_size,
    shuffle_buffer,
    instances,
) -> None:
    options = {
        "max_length": max_length,
        "batch_size": batch_size,
        "instances": instances,
    }
    with tempfile.TemporaryDirectory() as directory:
        prepared = write_prepared(
            Path(directory) / "data", users, num_items=4, num_shards=num_shards
        )
        sequences = prepared.sequences()
        if not sequences.num_train_instances:
            with pytest.raises(InvalidValueError, match="at least one user with two"):
                streaming_training_dataset(prepared, **options)
            return
        streamed = streaming_training_dataset(
            prepared, shuffle_buffer=shuffle_buffer, **options
        )
        rows = rows_of(streamed)
        for part in ("validation", "test"):
            sizes = {"max_length": max_length, "batch_size": batch_size}
            assert rows_of(
                streaming_evaluation_dataset(prepared, part, **sizes)
            ) == rows_of(evaluation_dataset(sequences, part, **sizes))
    memory = training_dataset(sequences, **options)
    assert without_partners(rows) == without_partners(rows_of(memory))
    # A partner is one of all prefixes with its target.
    prefixes = training_dataset(sequences, max_length=max_length, same_target=False)
    known = {(history, target) for history, target in rows_of(prefixes)}
    for history, partner, target in rows:
        if instances == "sequences":
            length = sum(item != 0 for item in history)
            target = target.strip("[]").split(", ")[length - 1]
        assert (partner, target) in known


def epochs(prepared, count: int, **options) -> list[list[tuple]]:
    dataset = streaming_training_dataset(
        prepared, max_length=4, batch_size=16, shuffle_buffer=64, **options
    )
    return [rows_of(dataset) for _ in range(count)]


@pytest.mark.parametrize("instances", ["prefixes", "sequences"])
def test_epochs_differ_and_depend_on_seed_and_number_alone(prepared, instances) -> None:
    first = epochs(prepared, 4, seed=1, instances=instances)
    assert all(one != other for one, other in itertools.pairwise(first))
    resumed = epochs(prepared, 2, seed=1, instances=instances, initial_epoch=2)
    assert resumed == first[2:]
    assert epochs(prepared, 1, seed=2, instances=instances)[0] != first[0]


def test_an_epoch_that_was_left_does_not_change_the_next(prepared) -> None:
    dataset = streaming_training_dataset(prepared, max_length=4, batch_size=16)
    next(iter(dataset))
    assert rows_of(dataset) == rows_of(
        streaming_training_dataset(
            prepared, max_length=4, batch_size=16, initial_epoch=1
        )
    )


def test_a_buffer_that_holds_all_draws_each_other_instance_alike(
    write_prepared, tmp_path
) -> None:
    # Every user's second item is 1; the histories before it tell the users apart.
    num_users = 40
    prepared = write_prepared(
        tmp_path / "data",
        [([10 + user, 1, 60 + user], 3, 3) for user in range(num_users)],
        num_shards=2,
    )
    dataset = streaming_training_dataset(prepared, max_length=3, batch_size=7)
    drawn = collections.Counter()
    for _ in range(20):
        for mine, other, target in rows_of(dataset):
            if target == "1":
                drawn[(other[0] - mine[0]) % num_users] += 1
            else:
                # The only instance with this target.
                assert other == mine
    assert set(drawn) == set(range(1, num_users))
    assert all(abs(count - 800 / 39) < 25 for count in drawn.values())


def test_partners_beyond_the_buffer_are_the_last_that_left(
    write_prepared, tmp_path
) -> None:
    # Two instances are held; target 1 comes once in five, so its others are never held.
    users = [([10 + n, 1 if n % 5 == 0 else 2], 2, 2) for n in range(50)]
    prepared = write_prepared(tmp_path / "data", users)
    dataset = streaming_training_dataset(
        prepared, max_length=2, batch_size=1, shuffle_buffer=1
    )
    before = None
    for mine, other, target in rows_of(dataset):
        if target == "1":
            assert other == (mine if before is None else before)
            before = mine
    assert before is not None


def test_shorter_prefixes_are_partners_of_whole_sequences(
    write_prepared, tmp_path
) -> None:
    # Only the middle of the first user has the target of the second.
    users = [([1, 2, 3], 3, 3), ([4, 2], 2, 2)]
    prepared = write_prepared(tmp_path / "data", users)
    dataset = streaming_training_dataset(prepared, max_length=2, instances="sequences")
    assert sorted(rows_of(dataset)) == [
        ((1, 2), (1, 2), "[2, 3]"),
        ((4, 0), (1, 0), "[2, 0]"),
    ]


def test_no_more_is_held_than_the_buffer(prepared, monkeypatch) -> None:
    held = []

    class Watched(stream_batches.ShuffleBuffer):
        def add(self, instances) -> None:
            super().add(instances)
            held.append(len(self))
            assert self.room >= 0

    monkeypatch.setattr(stream_batches, "ShuffleBuffer", Watched)
    rows = epochs(prepared, 1)[0]
    assert len(rows) > 5 * max(held)
    assert max(held) == 64


def test_a_place_in_the_order_is_moved_by_about_the_buffer(
    write_prepared, tmp_path
) -> None:
    num_users, held = 4000, 400
    users = [([1 + n // 100, 1 + n % 100], 2, 2) for n in range(num_users)]
    prepared = write_prepared(tmp_path / "data", users)
    dataset = streaming_training_dataset(
        prepared, max_length=1, batch_size=5, same_target=False, shuffle_buffer=held
    )
    rows = rows_of(dataset)
    arrived = [(history[0] - 1) * 100 + int(target) - 1 for history, target in rows]
    # Each of the held is as likely in a draw: the time in the buffer is geometric.
    waited = np.arange(num_users) - np.array(arrived) + held
    middle = waited[np.array(arrived) < num_users - 4 * held]
    assert 0.8 * held < middle.mean() < 1.2 * held
    assert 0.7 * held < middle.std() < 1.3 * held


def test_shards_are_read_in_another_order_each_epoch(
    write_prepared, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(stream_batches, "_OPEN_SHARDS", 1)
    users = [([10 + n, 20 + n], 2, 2) for n in range(8)]
    prepared = write_prepared(tmp_path / "data", users, num_shards=8)
    dataset = streaming_training_dataset(
        prepared, max_length=1, batch_size=1, shuffle_buffer=1, same_target=False
    )
    orders = {tuple(target for _, target in rows_of(dataset)) for _ in range(6)}
    assert len(orders) > 3


@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluation_is_that_of_memory_batch_by_batch(
    prepared, monkeypatch, part
) -> None:
    # Batches go over the ends of blocks.
    monkeypatch.setattr(prepared_data, "_BLOCK_USERS", 7)
    options = {"max_length": 4, "batch_size": 10}
    memory = evaluation_dataset(prepared.sequences(), part, **options)
    streamed = streaming_evaluation_dataset(prepared, part, **options)
    assert streamed.cardinality() == memory.cardinality()
    for one, other in zip(streamed, memory, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)
    assert keras.tree.map_structure(lambda spec: spec.dtype, streamed.element_spec) == (
        keras.tree.map_structure(lambda spec: spec.dtype, memory.element_spec)
    )


def test_no_targets_are_no_batches(write_prepared, tmp_path) -> None:
    prepared = write_prepared(tmp_path / "data", [([1, 2, 3], 3, 3)])
    dataset = streaming_evaluation_dataset(prepared, "test")
    assert int(dataset.cardinality()) == 0
    assert list(dataset) == []


@pytest.fixture
def damaged(users, write_prepared, tmp_path):
    """A prepared directory, and what cuts its second shard short."""
    prepared = write_prepared(
        tmp_path / "data", users, num_items=NUM_ITEMS, num_shards=3
    )
    shard = tmp_path / "data" / "sequences-00001-of-00003.tfrecord"
    return prepared, lambda: shard.write_bytes(shard.read_bytes()[:-5])


def test_a_damaged_shard_is_named(damaged) -> None:
    prepared, damage = damaged
    damage()
    message = "whole TFRecord files.*Received: .*sequences-00001-of-00003.tfrecord"
    for make in (
        streaming_training_dataset,
        lambda data: streaming_evaluation_dataset(data, "test"),
    ):
        with pytest.raises(ContractError, match=message):
            make(prepared)


def test_a_shard_that_is_damaged_later_is_named(damaged) -> None:
    prepared, damage = damaged
    dataset = streaming_training_dataset(prepared)
    damage()
    message = "sequences-00001-of-00003.tfrecord"
    with pytest.raises(tf.errors.OpError, match=message):
        rows_of(dataset)
    with pytest.raises(ContractError, match=message), naming_damaged_shards(prepared):
        rows_of(dataset)


def test_failures_of_another_kind_stay_what_they_are(prepared) -> None:
    with pytest.raises(tf.errors.InternalError), naming_damaged_shards(prepared):
        raise tf.errors.InternalError(None, None, "no more memory")


def test_a_shard_with_other_users(users, write_prepared, tmp_path) -> None:
    prepared = write_prepared(tmp_path / "data", users, num_items=NUM_ITEMS)
    prepared.metadata["shards"][0]["num_users"] += 1
    with pytest.raises(
        ContractError, match="hold the 301 users.*tfrecord, which holds"
    ):
        streaming_training_dataset(prepared)
    prepared.metadata["shards"][0]["num_users"] -= 1
    prepared.metadata["num_train_instances"] += 1
    with pytest.raises(ContractError, match="must hold what their metadata says"):
        streaming_training_dataset(prepared)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1. Received: 0"),
        ({"max_length": 0}, "max_length must be at least 1. Received: 0"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be at least 1. Received: 0"),
        ({"instances": "all"}, "instances must be one of 'prefixes', 'sequences'"),
    ],
)
def test_bad_arguments(prepared, options, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        streaming_training_dataset(prepared, **options)


def test_training_targets_are_not_evaluated(prepared) -> None:
    with pytest.raises(InvalidValueError, match="part must be one of .*'train'"):
        streaming_evaluation_dataset(prepared, "train")
