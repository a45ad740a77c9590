from collections import Counter

import numpy as np
import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.instances import (
    Instances,
    evaluation_dataset,
    training_dataset,
)
from adaptiverec.model.prepared_data import Sequences


def sequences_of(*users: tuple[list[int], int, int]) -> Sequences:
    """Of (items, train_end, validation_end) for each user."""
    lengths = [len(items) for items, _, _ in users]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(
        items=np.concatenate([items for items, _, _ in users]).astype(np.int32),
        starts=starts,
        train_ends=starts[:-1] + [train_end for _, train_end, _ in users],
        validation_ends=starts[:-1] + [end for _, _, end in users],
    )


# Leave-one-out; a user without targets; and a time split with two targets of each part.
SEQUENCES = sequences_of(
    ([5, 6, 7, 8, 9], 3, 4), ([5, 6], 2, 2), ([1, 2, 6, 7, 8], 1, 3)
)


def rows_of(dataset) -> list[tuple]:
    rows = []
    for inputs, targets in dataset:
        for index, target in enumerate(targets.numpy().tolist()):
            values = {name: tensor.numpy()[index] for name, tensor in inputs.items()}
            rows.append(
                (
                    {name: ids[ids != 0].tolist() for name, ids in values.items()},
                    target,
                )
            )
    return rows


def test_every_prefix_of_the_training_part_is_an_instance() -> None:
    rows = rows_of(training_dataset(SEQUENCES, max_length=4, same_target=False))
    assert sorted((row["item_ids"], target) for row, target in rows) == [
        ([5], 6),
        ([5], 6),
        ([5, 6], 7),
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("validation", [([5, 6, 7], 8), ([1], 2), ([1, 2], 6)]),
        ("test", [([5, 6, 7, 8], 9), ([1, 2, 6], 7), ([1, 2, 6, 7], 8)]),
    ],
)
def test_a_targets_history_is_all_before_it(part, expected) -> None:
    rows = rows_of(evaluation_dataset(SEQUENCES, part, max_length=9, batch_size=2))
    assert [(row["item_ids"], target) for row, target in rows] == expected
    assert all(row["seen_item_ids"] == row["item_ids"] for row, _ in rows)


def test_the_model_sees_the_last_items_and_the_filter_all() -> None:
    (row, target), *_ = rows_of(evaluation_dataset(SEQUENCES, "test", max_length=2))
    assert row == {"item_ids": [7, 8], "seen_item_ids": [5, 6, 7, 8]}
    assert target == 9


def test_a_target_without_any_history_is_left_out() -> None:
    sequences = sequences_of(([3, 4], 0, 1))
    assert len(Instances.of(sequences, "validation")) == 0
    assert len(Instances.of(sequences, "test")) == 1


def test_shapes_and_dtypes() -> None:
    inputs, targets = next(iter(training_dataset(SEQUENCES, max_length=6)))
    assert inputs["item_ids"].shape == (3, 6)
    assert inputs["same_target_item_ids"].shape == (3, 6)
    assert {inputs["item_ids"].dtype.name, targets.dtype.name} == {"int32"}


MANY = sequences_of(*(([10 + user, 1, 30 + user, 2], 4, 4) for user in range(8)))


def test_same_target_sequences_are_others_and_each_as_likely() -> None:
    # Every user's second item is 1; the histories before it tell the users apart.
    num_users = 60
    sequences = sequences_of(*(([10 + u, 1, 100 + u], 3, 3) for u in range(num_users)))
    dataset = training_dataset(sequences, max_length=3, batch_size=50)
    drawn: Counter = Counter()
    for _ in range(20):
        for inputs, target in rows_of(dataset):
            mine, other = inputs["item_ids"], inputs["same_target_item_ids"]
            if target == 1:
                assert other != mine
                drawn[(other[0] - mine[0]) % num_users] += 1
            else:
                # The only instance with this target.
                assert other == mine
    assert set(drawn) == set(range(1, num_users))
    assert all(abs(count - 1200 / 59) < 25 for count in drawn.values())


def epochs(seed: int, initial_epoch: int, count: int) -> list[list[tuple]]:
    dataset = training_dataset(
        MANY, max_length=4, batch_size=5, seed=seed, initial_epoch=initial_epoch
    )
    return [rows_of(dataset) for _ in range(count)]


def test_epochs_differ_and_depend_on_seed_and_number_alone() -> None:
    first = epochs(seed=1, initial_epoch=0, count=4)
    assert first[0] != first[1]
    assert first[2:] == epochs(seed=1, initial_epoch=2, count=2)
    assert first[0] != epochs(seed=2, initial_epoch=0, count=1)[0]
    by_content = [sorted(map(repr, [(r["item_ids"], t) for r, t in e])) for e in first]
    assert all(content == by_content[0] for content in by_content)


def test_cardinality_is_known() -> None:
    assert int(training_dataset(MANY, batch_size=5).cardinality()) == 5
    assert int(evaluation_dataset(SEQUENCES, "test", batch_size=2).cardinality()) == 2


def test_nothing_to_train_on() -> None:
    with pytest.raises(InvalidValueError, match="Received: 1 users, none of them so"):
        training_dataset(sequences_of(([1, 2, 3], 1, 2)))


def test_no_such_part() -> None:
    with pytest.raises(
        InvalidValueError, match="part must be one of .*Received: 'dev'"
    ):
        evaluation_dataset(SEQUENCES, "dev")
