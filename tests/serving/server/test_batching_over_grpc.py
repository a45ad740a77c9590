"""Batches whose requests wait in the event loop of the gRPC port."""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from adaptiverec.serving.batching import BatchingRunner
from adaptiverec.serving.batching_options import BatchingOptions
from adaptiverec.serving.batching_scheduler import BatchScheduler
from adaptiverec.serving.event_loop import EventLoopThread
from adaptiverec.serving.status import RequestError

# A batch of 8 is made at once, or after half a minute.
PARAMETERS = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 30000000 }
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 8 }
pad_variable_length_inputs: true
"""


MONITORING = 'prometheus_config { enable: true, path: "/metrics" }'


@pytest.fixture
def started(start, publish, tmp_path, helpers):
    parameters = tmp_path / "batching.pbtxt"
    parameters.write_text(PARAMETERS)
    monitoring = tmp_path / "monitoring.pbtxt"
    monitoring.write_text(MONITORING)
    publish(tmp_path / "base", 1)
    return start(
        tmp_path / "base",
        enable_batching=True,
        batching_parameters_file=str(parameters),
        rest_api_port=helpers.free_port(),
        monitoring_config_file=str(monitoring),
    )


@pytest.fixture
def caller(started):
    return started[1]


def num_come(server) -> int:
    """How many requests have come to be put into a batch."""
    url = f"http://127.0.0.1:{server.rest_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        page = answer.read().decode()
    # No line before the first one.
    counts = re.findall(r"batching_session:input_batch_size_count\{\} (\d+)", page)
    return sum(map(int, counts))


def test_who_leaves_a_batch_takes_nobody_along(started, helpers):
    server, caller = started
    asked = [
        caller.prediction.Predict.future(
            helpers.predict_request("echo", text=[f"{number}"])
        )
        for number in range(4)
    ]
    helpers.wait_until(lambda: num_come(server) == 4)
    asked[1].cancel()
    more = [
        caller.prediction.Predict.future(
            helpers.predict_request("echo", text=[f"{number}"]), timeout=25
        )
        for number in range(4, 8)
    ]
    answered = [asked[0], *asked[2:], *more]
    texts = [call.result(25).outputs["text"].string_val[0] for call in answered]
    assert texts == [b"0", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert asked[1].cancelled()


def test_a_request_too_large_for_the_loop_shares_its_batch(caller, helpers):
    large = [b"x" * 100_000 + b"%d" % number for number in range(6)]
    small = [b"%d" % number for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(
            lambda texts: caller.prediction.Predict(
                helpers.predict_request("echo", text=texts), timeout=25
            ),
            [large, small],
        )
        for texts, answer in zip([large, small], answers, strict=True):
            assert list(answer.outputs["text"].string_val) == texts


def test_an_answer_too_large_for_the_loop_arrives(caller, helpers):
    request = helpers.predict_request(
        "serving_default", history=[["a"]] * 8, k=np.int32([20_000] * 8)
    )
    items = caller.prediction.Predict(request, timeout=25).outputs["items"]
    assert [dim.size for dim in items.tensor_shape.dim] == [8, 20_000]
    assert list(items.string_val[:5]) == [b"b", b"c", b"d", b"x,y", b""]


def test_an_error_is_that_of_every_request_of_the_batch(caller, helpers):
    with ThreadPoolExecutor(8) as pool:
        refusals = pool.map(
            lambda number: caller.refusal(
                helpers.predict_request(
                    "serving_default", history=[["a"]], k=np.int32([number])
                )
            ),
            range(8),
        )
        for code, message in refusals:
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "k must be at least 1" in message


class Doubles:
    def __init__(self):
        self.rows = []

    def run(self, feeds, fetches, timeout=None):
        self.rows.append(len(feeds["x"]))
        if feeds["x"][0] < 0:
            raise RequestError(grpc.StatusCode.DATA_LOSS, "no negative numbers")
        return [2 * feeds["x"] for _ in fetches]

    def close(self):
        pass


@pytest.fixture
def loop():
    loop = EventLoopThread("test", 2)
    yield loop
    loop.close()


def test_coroutines_and_threads_share_a_batch_and_large_ones_are_split(loop):
    inner = Doubles()
    options = BatchingOptions(
        max_batch_size=12,
        batch_timeout_micros=30_000_000,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
    )
    runner = BatchingRunner(inner, options, BatchScheduler(1))
    feeds = {"x": np.arange(10.0)}
    with ThreadPoolExecutor(1) as pool:
        from_thread = pool.submit(runner.run, {"x": np.ones(2)}, ["y"])
        [doubled] = loop.run(runner.run_in_loop(feeds, ["y"], 25.0))
        assert from_thread.result(25)[0].tolist() == [2, 2]
    assert doubled.tolist() == (2 * feeds["x"]).tolist()
    assert inner.rows == [4, 4, 4]
    runner.close()


def test_a_coroutine_gets_the_error_of_its_batch(loop):
    runner = BatchingRunner(Doubles(), BatchingOptions(), BatchScheduler(1))
    with pytest.raises(RequestError, match="no negative numbers"):
        loop.run(runner.run_in_loop({"x": np.array([-1.0])}, ["y"]))
    runner.close()


def test_what_no_batch_takes_runs_in_a_thread(loop):
    inner = Doubles()
    threads = []
    inner.run = lambda feeds, fetches, timeout: (
        threads.append(threading.current_thread()) or [feeds["x"]]
    )
    runner = BatchingRunner(inner, BatchingOptions(), BatchScheduler(1), signatures=[])

    async def both():
        here = threading.current_thread()
        values = await runner.run_in_loop({"x": np.ones(3)}, ["y"])
        return here, values

    here, [value] = loop.run(both())
    assert value.tolist() == [1, 1, 1]
    assert here not in threads
    runner.close()


def test_a_loop_that_is_closed_stops_no_batch():
    inner = Doubles()
    release = threading.Event()
    run = inner.run
    inner.run = lambda *arguments: release.wait(25) and run(*arguments)
    runner = BatchingRunner(inner, BatchingOptions(), BatchScheduler(1))
    loop = EventLoopThread("test", 1)

    async def ask() -> asyncio.Task[object]:
        task = asyncio.create_task(runner.run_in_loop({"x": np.ones(1)}, ["y"]))
        await asyncio.sleep(0)
        return task

    async def leave(task: asyncio.Task[object]) -> None:
        task.cancel()
        await asyncio.wait([task])

    loop.run(leave(loop.run(ask())))
    loop.close()
    release.set()
    # The one thread that runs batches goes on.
    assert runner.run({"x": np.ones(1)}, ["y"])[0].tolist() == [2]
    runner.close()
