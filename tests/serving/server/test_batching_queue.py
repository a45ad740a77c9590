"""The queue of one signature, by a clock that the test sets."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.serving.batching_options import BatchingOptions
from adaptiverec.serving.batching_queue import BatchQueue, Task
from adaptiverec.serving.status import RequestError


def task(rows: int) -> Task:
    return Task({"x": np.arange(rows)}, rows)


def test_a_batch_waits_for_the_timeout_or_until_it_is_full():
    queue = BatchQueue(
        BatchingOptions(max_batch_size=4, batch_timeout_micros=5_000_000)
    )
    assert queue.due() is None
    assert queue.take(100.0) is None
    first, second, third = task(1), task(2), task(1)
    queue.add(first, now=10.0)
    queue.add(second, now=13.0)
    assert queue.due() == 15.0
    assert queue.take(14.999) is None
    batch = queue.take(15.0)
    assert batch is not None
    assert batch.tasks == [first, second]
    assert batch.rows == 3
    assert [first.enqueued, second.enqueued] == [10.0, 13.0]
    # The next batch has a clock of its own.
    queue.add(third, now=16.0)
    assert queue.due() == 21.0
    queue.add(task(3), now=17.0)
    full = queue.take(17.0)
    assert full is not None
    assert full.rows == 4
    assert queue.due() is None


def test_without_a_timeout_whatever_has_come_is_a_batch():
    queue = BatchQueue(BatchingOptions())
    queue.add(task(1), now=3.0)
    queue.add(task(1), now=3.5)
    batch = queue.take(3.5)
    assert batch is not None
    assert len(batch.tasks) == 2


def test_a_task_that_does_not_fit_begins_a_new_batch():
    queue = BatchQueue(
        BatchingOptions(max_batch_size=4, batch_timeout_micros=1_000_000)
    )
    queue.add(task(3), now=0.0)
    queue.add(task(2), now=0.5)
    # The first is closed and may go at once, the second waits for its own time.
    assert queue.due() == 0.0
    first = queue.take(0.5)
    assert first is not None
    assert first.rows == 3
    assert queue.due() == 1.5


def test_a_task_larger_than_a_batch_is_refused():
    queue = BatchQueue(BatchingOptions(max_batch_size=4))
    with pytest.raises(RequestError) as caught:
        queue.add(task(5), now=0.0)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == (
        "Task size 5 is larger than maximum input batch size 4"
    )


def test_a_full_queue_is_unavailable_until_a_batch_is_taken():
    queue = BatchQueue(BatchingOptions(max_batch_size=2, max_enqueued_batches=2))
    for _ in range(4):
        queue.add(task(1), now=0.0)
    with pytest.raises(RequestError) as caught:
        queue.add(task(1), now=0.0)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; currently "
        "2 batches enqueued and max_enqueued_batches is 2"
    )
    assert queue.take(0.0) is not None
    queue.add(task(1), now=0.0)


def test_zero_enqueued_batches_are_one():
    queue = BatchQueue(BatchingOptions(max_batch_size=2, max_enqueued_batches=0))
    queue.add(task(2), now=0.0)
    with pytest.raises(RequestError, match="max_enqueued_batches is 1"):
        queue.add(task(1), now=0.0)


def test_a_large_task_is_split_where_that_is_asked_for():
    queue = BatchQueue(
        BatchingOptions(
            max_batch_size=10,
            max_execution_batch_size=4,
            enable_large_batch_splitting=True,
        )
    )
    queue.add(task(1), now=0.0)
    parts = queue.add(task(9), now=0.0)
    # Three fill up the open batch.
    assert [part.feeds["x"].tolist() for part in parts] == [
        [0, 1, 2],
        [3, 4, 5, 6],
        [7, 8],
    ]
    sizes = []
    while (batch := queue.take(0.0)) is not None:
        sizes.append(batch.rows)
    assert sizes == [4, 4, 2]


def test_a_full_queue_that_splits_says_how_much_room_there_is():
    queue = BatchQueue(
        BatchingOptions(
            max_batch_size=10,
            max_execution_batch_size=4,
            max_enqueued_batches=2,
            enable_large_batch_splitting=True,
        )
    )
    queue.add(task(6), now=0.0)
    with pytest.raises(RequestError) as caught:
        queue.add(task(3), now=0.0)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; task size "
        "is 3 but scheduling capacity is only 2 (num_enqueued_batches=2, "
        "max_enqueued_batches=2, open_batch_size=2, max_execution_batch_size=4)"
    )


def test_a_task_without_rows_is_not_left_waiting():
    queue = BatchQueue(BatchingOptions())
    queue.add(task(0), now=0.0)
    assert queue.take(0.0) is not None


@given(
    sizes=st.lists(st.integers(0, 7), max_size=40),
    limit=st.integers(7, 12),
    split=st.booleans(),
    taken=st.lists(st.booleans(), max_size=40),
)
def test_every_row_comes_out_once_and_in_order(sizes, limit, split, taken):
    rows = min(limit, 5)
    queue = BatchQueue(
        BatchingOptions(
            max_batch_size=limit,
            max_execution_batch_size=rows if split else limit,
            enable_large_batch_splitting=split,
            max_enqueued_batches=3,
        )
    )
    expected: list[int] = []
    came_out: list[int] = []
    refusals: set[grpc.StatusCode] = set()
    number = 0

    def take() -> bool:
        batch = queue.take(0.0)
        if batch is None:
            return False
        assert batch.rows == sum(part.rows for part in batch.tasks)
        assert batch.rows <= (rows if split else limit)
        for part in batch.tasks:
            came_out.extend(part.feeds["x"].tolist())
        return True

    for index, size in enumerate(sizes):
        values = np.arange(number, number + size)
        number += size
        try:
            queue.add(Task({"x": values}, size), now=0.0)
            expected.extend(values.tolist())
        except RequestError as error:
            refusals.add(error.code)
        if index < len(taken) and taken[index]:
            take()
    while take():
        pass
    assert came_out == expected
    assert refusals <= {grpc.StatusCode.UNAVAILABLE}
