"""Batches of concurrent calls, over a graph that the test makes up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from adaptiverec.serving.batching import (
    BatchingRunner,
    BatchObserver,
    batching_wrapper,
)
from adaptiverec.serving.batching_options import BatchingOptions
from adaptiverec.serving.batching_queue import BatchQueue, Task
from adaptiverec.serving.batching_scheduler import BatchScheduler
from adaptiverec.serving.status import RequestError


class FakeRunner:
    """Doubles ``x``; the first run waits until it is let go."""

    def __init__(self, *, hold: bool = False) -> None:
        self.calls: list[tuple[dict[str, np.ndarray], list[str], float | None]] = []
        self.started = threading.Event()
        self.go = threading.Event()
        if not hold:
            self.go.set()
        self.error: Exception | None = None
        self.outputs: Callable[[dict[str, np.ndarray]], dict[str, Any]] = lambda feeds: {
            "y": 2 * feeds["x"],
            "n": np.ones(len(feeds["x"]), np.int64),
        }
        self.closed = False

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        self.calls.append((dict(feeds), list(fetches), timeout))
        self.started.set()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        outputs = self.outputs(dict(feeds))
        return [outputs[name] for name in fetches]

    def close(self) -> None:
        self.closed = True


class Recorder(BatchObserver):
    def __init__(self) -> None:
        self.inputs: list[tuple[int, int]] = []
        self.batches: list[tuple[int, int, int]] = []

    def batch_input(self, rows: int, tensors: int) -> None:
        self.inputs.append((rows, tensors))

    def batch(self, seconds_waited: Sequence[float], padding: int, rows: int) -> None:
        self.batches.append((len(seconds_waited), padding, rows))


class CountingScheduler(BatchScheduler):
    """Tells how many tasks have been queued."""

    submitted = 0

    def submit(self, queue: BatchQueue, task: Task) -> list[Task]:
        parts = super().submit(queue, task)
        self.submitted += 1
        return parts


class Bench:
    """A runner with one batch thread, and callers in threads of their own."""

    def __init__(self, pool: ThreadPoolExecutor, **options: Any) -> None:
        self.inner = FakeRunner(hold=True)
        self.observer = Recorder()
        self.now: float | None = None
        self.scheduler = CountingScheduler(1, clock=self.clock)
        self.runner = BatchingRunner(
            self.inner,
            BatchingOptions(**options),
            self.scheduler,
            observer=self.observer,
            clock=self.clock,
        )
        self._pool = pool

    def clock(self) -> float:
        return time.monotonic() if self.now is None else self.now

    def call(
        self,
        *x: Any,
        fetches: Sequence[str] = ("y",),
        timeout: float | None = None,
        **more: np.ndarray,
    ) -> Future[list[np.ndarray]]:
        """Calls, and waits until the call is in the queue."""
        before = self.scheduler.submitted
        feeds = {"x": np.array(x, np.float32), **more}
        future = self._pool.submit(self.runner.run, feeds, fetches, timeout)
        wait_until(lambda: future.done() or self.scheduler.submitted > before)
        return future

    def hold(self) -> Future[list[np.ndarray]]:
        """Keeps the only batch thread busy until :meth:`release`."""
        future = self._pool.submit(self.runner.run, {"x": np.zeros(1)}, ["y"])
        assert self.inner.started.wait(30)
        return future

    def release(self) -> None:
        self.inner.go.set()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def bench():
    with ThreadPoolExecutor(32) as pool:
        made: list[Bench] = []

        def make(**options: Any) -> Bench:
            made.append(Bench(pool, **options))
            return made[-1]

        yield make
        for each in made:
            each.release()


def message_of(future: Future[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(RequestError) as caught:
        future.result(30)
    return caught.value.code, caught.value.message


def test_calls_that_wait_run_together_and_each_gets_its_rows(bench):
    bench = bench()
    held = bench.hold()
    first = bench.call(1, 2)
    second = bench.call(3)
    third = bench.call(4, 5, 6)
    bench.release()
    assert first.result(30)[0].tolist() == [2, 4]
    assert second.result(30)[0].tolist() == [6]
    assert third.result(30)[0].tolist() == [8, 10, 12]
    held.result(30)
    assert [len(feeds["x"]) for feeds, _, _ in bench.inner.calls] == [1, 6]
    assert bench.observer.inputs == [(1, 1), (2, 1), (1, 1), (3, 1)]
    assert bench.observer.batches == [(1, 0, 1), (3, 0, 6)]


def test_outputs_come_in_the_order_asked_for(bench):
    bench = bench()
    bench.release()
    one = bench.call(1, fetches=["y", "n"]).result(30)
    other = bench.call(1, fetches=["n", "y"]).result(30)
    assert [value.tolist() for value in one] == [[2], [1]]
    assert [value.tolist() for value in other] == [[1], [2]]


def test_only_calls_for_the_same_tensors_share_a_batch(bench):
    bench = bench()
    bench.hold()
    calls = [
        bench.call(1, fetches=["y"]),
        bench.call(2, fetches=["n"]),
        bench.call(3, fetches=["y"]),
        bench.call(4, fetches=["y", "n"]),
        bench.call(5, fetches=["n", "y"]),
        bench.call(6, fetches=["y"], z=np.zeros(1)),
    ]
    bench.release()
    for call in calls:
        call.result(30)
    batches = {
        (tuple(feeds), tuple(fetches)): feeds["x"].tolist()
        for feeds, fetches, _ in bench.inner.calls[1:]
    }
    assert batches == {
        (("x",), ("y",)): [1, 3],
        (("x",), ("n",)): [2],
        (("x",), ("n", "y")): [4, 5],
        (("x", "z"), ("y",)): [6],
    }


def test_a_batch_is_filled_up_to_an_allowed_size_with_a_row_of_its_own(bench):
    bench = bench(max_batch_size=8, allowed_batch_sizes=(2, 8))
    bench.hold()
    first, second = bench.call(1, 2), bench.call(7, 9)
    bench.release()
    assert first.result(30)[0].tolist() == [2, 4]
    assert second.result(30)[0].tolist() == [14, 18]
    assert bench.inner.calls[1][0]["x"].tolist() == [1, 2, 7, 9, 7, 7, 7, 7]
    assert bench.observer.batches == [(1, 1, 2), (2, 4, 8)]


def matrix(*rows: Sequence[Any]) -> np.ndarray:
    return np.array(rows, dtype=object)


def test_shorter_rows_are_padded_with_the_first_value_of_their_tensor(bench):
    bench = bench(pad_variable_length_inputs=True)
    bench.inner.outputs = lambda feeds: {"y": feeds["ids"]}
    bench.hold()
    short = bench.call(1, 1, ids=matrix([b"a", b"b"], [b"c", b"d"]))
    long = bench.call(1, ids=matrix([b"e", b"f", b"g", b"h"]))
    bench.release()
    assert short.result(30)[0].tolist() == [
        [b"a", b"b", b"a", b"a"],
        [b"c", b"d", b"a", b"a"],
    ]
    assert long.result(30)[0].tolist() == [[b"e", b"f", b"g", b"h"]]


def test_tensors_of_another_rank_are_a_batch_of_their_own_where_padded(bench):
    bench = bench(pad_variable_length_inputs=True)
    bench.hold()
    flat, deep = bench.call(1), bench.call([1, 2])
    bench.release()
    assert flat.result(30)[0].tolist() == [2]
    assert deep.result(30)[0].tolist() == [[2, 4]]


def test_an_empty_row_cannot_be_padded(bench):
    bench = bench(pad_variable_length_inputs=True)
    bench.hold()
    empty = bench.call(1, ids=np.empty((1, 0)))
    full = bench.call(1, ids=np.ones((1, 2)))
    bench.release()
    expected = (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Got empty tensor in batch of non-empty tensors.",
    )
    assert message_of(empty) == expected
    assert message_of(full) == expected


def test_other_shapes_fail_the_batch_where_nothing_is_padded(bench):
    bench = bench()
    bench.hold()
    calls = [bench.call([1, 2]), bench.call([1, 2, 3])]
    bench.release()
    for call in calls:
        code, message = message_of(call)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert message == (
            "Tensors with name 'x' from different tasks have different shapes and "
            "padding is turned off. Set pad_variable_length_inputs to true, or ensure "
            "that all tensors with the same name have equal dimensions starting with "
            "the first dim."
        )


def test_an_error_of_the_graph_reaches_every_caller_of_the_batch_alone(bench):
    bench = bench()
    held = bench.hold()
    calls = [bench.call(1), bench.call(2)]
    bench.inner.error = RequestError(grpc.StatusCode.OUT_OF_RANGE, "too far")
    bench.release()
    errors = []
    for call in [held, *calls]:
        assert message_of(call) == (grpc.StatusCode.OUT_OF_RANGE, "too far")
        errors.append(call.exception())
    assert len({id(error) for error in errors}) == 3
    bench.inner.error = None
    assert bench.call(3).result(30)[0].tolist() == [6]


def test_a_bug_below_does_not_leave_callers_or_the_thread_hanging(bench, caplog):
    bench = bench()
    bench.release()
    bench.inner.error = KeyError("x")
    with pytest.raises(RuntimeError, match="a batch failed: KeyError"):
        bench.call(1).result(30)
    bench.inner.error = None
    assert bench.call(3).result(30)[0].tolist() == [6]
    assert "a batch was not processed" in caplog.text


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            np.ones(3),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th "
            "dimension sizes of the input tensors",
        ),
    ],
)
def test_outputs_must_have_a_row_for_each_of_the_input(bench, output, message):
    bench = bench()
    bench.release()
    bench.inner.outputs = lambda feeds: {"y": np.asarray(output)}
    assert message_of(bench.call(1, 2)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        message,
    )


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        (
            {"x": np.array(1.0)},
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            {"x": np.ones(2), "z": np.ones(1)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_tensors_without_common_rows_are_refused(bench, feeds, message):
    bench = bench()
    with pytest.raises(RequestError) as caught:
        bench.runner.run(feeds, ["y"])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == message
    assert bench.inner.calls == []


def test_a_call_whose_time_passed_in_the_queue_is_not_run_and_harms_nobody(bench):
    bench = bench()
    bench.now = 100.0
    bench.hold()
    expired = bench.call(1, timeout=2.0)
    patient = bench.call(2, timeout=50.0)
    bench.now = 102.0
    bench.release()
    assert message_of(expired) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )
    assert patient.result(30)[0].tolist() == [4]
    feeds, _, timeout = bench.inner.calls[1]
    assert feeds["x"].tolist() == [2]
    assert timeout == 48.0


def test_a_batch_may_run_as_long_as_anybody_waits(bench):
    bench = bench()
    bench.now = 100.0
    bench.hold()
    calls = [bench.call(1, timeout=5.0), bench.call(1, timeout=9.0)]
    bench.release()
    for call in calls:
        call.result(30)
    assert bench.inner.calls[1][2] == 9.0
    calls = [bench.call(1, timeout=5.0), bench.call(1)]
    for call in calls:
        call.result(30)
    assert bench.inner.calls[-1][2] is None


def test_a_full_queue_refuses_and_goes_on(bench):
    bench = bench(max_batch_size=1, max_enqueued_batches=2)
    bench.hold()
    waiting = [bench.call(1), bench.call(2)]
    refused = bench.call(3)
    code, message = message_of(refused)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "the batch scheduling queue to which this task" in message.lower()
    bench.release()
    assert [call.result(30)[0].tolist() for call in waiting] == [[2], [4]]


def test_a_split_call_gets_its_rows_in_one_piece(bench):
    bench = bench(
        max_batch_size=10, max_execution_batch_size=3, enable_large_batch_splitting=True
    )
    bench.hold()
    first = bench.call(0)
    large = bench.call(1, 2, 3, 4, 5, 6, 7)
    bench.release()
    assert large.result(30)[0].tolist() == [2, 4, 6, 8, 10, 12, 14]
    assert first.result(30)[0].tolist() == [0]
    assert [len(feeds["x"]) for feeds, _, _ in bench.inner.calls] == [1, 3, 3, 2]


def test_a_split_call_fails_as_a_whole(bench):
    bench = bench(
        max_batch_size=10, max_execution_batch_size=3, enable_large_batch_splitting=True
    )
    bench.release()

    def fail_on_five(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if 5 in feeds["x"]:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "no five")
        return {"y": feeds["x"]}

    bench.inner.outputs = fail_on_five
    code, message = message_of(bench.call(1, 2, 3, 4, 5, 6, 7))
    assert (code, message) == (grpc.StatusCode.INVALID_ARGUMENT, "no five")


def test_a_batch_goes_when_its_time_has_come_and_not_before():
    with ThreadPoolExecutor() as pool:
        inner = FakeRunner()
        runner = BatchingRunner(
            inner,
            # Longer than any test waits: only a full batch goes.
            BatchingOptions(max_batch_size=2, batch_timeout_micros=1_000_000_000),
            BatchScheduler(2),
        )
        one = pool.submit(runner.run, {"x": np.ones(1)}, ["y"])
        assert inner.calls == []
        two = pool.submit(runner.run, {"x": np.ones(1)}, ["y"])
        assert [one.result(30)[0].tolist(), two.result(30)[0].tolist()] == [[2], [2]]
        assert len(inner.calls) == 1
        # And one that nobody fills up goes after a while.
        runner = BatchingRunner(
            inner,
            BatchingOptions(max_batch_size=2, batch_timeout_micros=10_000),
            BatchScheduler(2),
        )
        assert runner.run({"x": np.ones(1)}, ["y"])[0].tolist() == [2]


def test_threads_end_with_the_last_runner_and_begin_with_the_next():
    def threads() -> int:
        return sum(
            thread.name.startswith("only_here") for thread in threading.enumerate()
        )

    scheduler = BatchScheduler(3, thread_name="only_here")
    runners = []
    for _ in range(2):
        runners.append(BatchingRunner(FakeRunner(), BatchingOptions(), scheduler))
        runners[-1].run({"x": np.ones(1)}, ["y"])
    assert threads() == 3
    runners[0].close()
    assert runners[0]._runner.closed
    assert runners[1].run({"x": np.ones(1)}, ["y"])[0].tolist() == [2]
    assert threads() == 3
    runners[1].close()
    wait_until(lambda: threads() == 0)
    again = BatchingRunner(FakeRunner(), BatchingOptions(), scheduler)
    assert again.run({"x": np.ones(1)}, ["y"])[0].tolist() == [2]
    again.close()


def test_many_callers_get_their_own_answers():
    inner = FakeRunner()
    runner = BatchingRunner(
        inner,
        BatchingOptions(max_batch_size=16, max_enqueued_batches=1000),
        BatchScheduler(4),
    )

    def caller(number: int) -> bool:
        values = np.full(1 + number % 3, number, np.float64)
        return all(
            np.array_equal(
                runner.run({"x": values + turn}, ["y"])[0], 2 * (values + turn)
            )
            for turn in range(50)
        )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(caller, range(16)))
    assert all(len(feeds["x"]) <= 16 for feeds, _, _ in inner.calls)


def test_no_more_queues_than_some_whatever_is_asked_for():
    inner = FakeRunner()
    inner.outputs = lambda feeds: {f"y{n}": feeds["x"] for n in range(600)}
    runner = BatchingRunner(inner, BatchingOptions(), BatchScheduler(1))
    for number in range(600):
        [value] = runner.run({"x": np.ones(1)}, [f"y{number}"])
        assert value.tolist() == [1]
    assert len(runner._queues) <= 257
    runner.close()


def test_only_whole_signatures_are_gathered(bench):
    names = frozenset({"x"}), frozenset({"y", "n"})
    inner = FakeRunner()
    runner = BatchingRunner(
        inner, BatchingOptions(), BatchScheduler(1), signatures={names}
    )
    # Run as it is, so its tensors need not have the same number of rows.
    [some] = runner.run({"x": np.ones(2)}, ["y"], 5.0)
    assert some.tolist() == [2, 2]
    other = {"x": np.ones(2), "z": np.ones(1)}
    assert runner.run(other, ["n", "y"])[0].tolist() == [1, 1]
    assert [timeout for _, _, timeout in inner.calls] == [5.0, None]
    assert runner._queues == {}
    assert runner.run({"x": np.ones(2)}, ["n", "y"])[1].tolist() == [2, 2]
    assert runner._queues
    runner.close()


SIGNATURE = text_format.Parse(
    """
    inputs { key: "in" value { name: "x" } }
    outputs { key: "out" value { name: "y" } }
    """,
    meta_graph_pb2.SignatureDef(),
)


class TestWrapper:
    def test_models_share_threads_and_keep_their_batches_apart(self, tmp_path):
        wrap = batching_wrapper(None)
        inner = [FakeRunner(), FakeRunner()]
        runners = [wrap(each, {"double": SIGNATURE}, tmp_path) for each in inner]
        for runner in runners:
            assert isinstance(runner, BatchingRunner)
            assert runner.run({"x": np.ones(1)}, ["y"])[0].tolist() == [2]
        assert [len(each.calls) for each in inner] == [1, 1]
        for runner in runners:
            runner.close()

    def test_a_model_may_have_parameters_of_its_own(self, tmp_path: Path):
        common = tmp_path / "common.pbtxt"
        common.write_text("max_batch_size { value: 4 }")
        wrap = batching_wrapper(common, per_model=True)
        own, without, broken = (tmp_path / name for name in ("own", "none", "broken"))
        for path in (own, without, broken):
            path.mkdir()
        (own / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
        (broken / "batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
        runner = wrap(FakeRunner(), {"double": SIGNATURE}, own)
        with pytest.raises(RequestError, match="maximum input batch size 2"):
            runner.run({"x": np.ones(3)}, ["y"])
        inner = FakeRunner()
        assert wrap(inner, {"double": SIGNATURE}, without) is inner
        with pytest.raises(
            RequestError, match="max_batch_size must be positive"
        ) as error:
            wrap(FakeRunner(), {"double": SIGNATURE}, broken)
        assert error.value.code is grpc.StatusCode.INVALID_ARGUMENT

    def test_the_file_is_looked_at_only_if_asked_for(self, tmp_path: Path):
        (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
        runner = batching_wrapper(None)(FakeRunner(), {"double": SIGNATURE}, tmp_path)
        assert runner.run({"x": np.ones(3)}, ["y"])[0].tolist() == [2, 2, 2]
        runner.close()
