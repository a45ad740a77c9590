"""Gathers concurrent requests into batches, as TensorFlow Serving's BatchingSession does.

Requests of a signature, which is tensors of the same names in and out, share a queue. A
batch of them is one run of the graph: their tensors are put one below the other along
dimension 0, and the outputs are cut up again. So all tensors of such a request, in and out,
must have the same number of rows. An error in a batch is the error of every request in it.

What is no signature as a whole, such as a request for some of the outputs, runs by itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from adaptiverec.common.errors import AdaptiveRecError
from adaptiverec.serving.batching_options import BatchingOptions, read_batching_options
from adaptiverec.serving.batching_queue import Batch, BatchQueue, Task
from adaptiverec.serving.batching_scheduler import BatchScheduler
from adaptiverec.serving.batching_tensors import (
    count_rows,
    merge_feeds,
    split_outputs,
)
from adaptiverec.serving.batching_waiting import LoopTask, ThreadTask, finish
from adaptiverec.serving.runner import Runner, RunnerWrapper
from adaptiverec.serving.status import RequestError

__all__ = ["BatchObserver", "BatchingRunner", "batching_wrapper"]

_Task = TypeVar("_Task", bound=Task)

# Names of the tensors that go in, and of those that come out.
TensorNames: TypeAlias = tuple[frozenset[str], frozenset[str]]

# Padded tensors have a queue for each rank; whoever tries all gets no more than these.
_MAX_QUEUES = 256
# Beside saved_model.pb, where each model has parameters of its own.
_MODEL_PARAMETERS = "batching_params.pbtxt"


class BatchObserver:
    """Told of batches; this one listens to nothing.

    The methods are called from many threads at once, must be quick and must not raise.
    """

    def batch_input(self, rows: int, tensors: int) -> None:
        """A request of so many rows, in so many tensors, has come."""

    def batch(self, seconds_waited: Sequence[float], padding: int, rows: int) -> None:
        """A batch was made, of requests that had waited so long each.

        Args:
            seconds_waited: Of each request.
            padding: Rows that the batch was filled up with.
            rows: Of the batch in the end.
        """


class BatchingRunner:
    """Runs a graph for several callers at once. Thread-safe.

    Args:
        runner: Runs the graph.
        options: Sizes and times.
        scheduler: The threads to run it in.
        signatures: Which requests to gather; None is all.
        observer: Told of each batch.
        clock: Tells the time in seconds; the scheduler's.
    """

    def __init__(
        self,
        runner: Runner,
        options: BatchingOptions,
        scheduler: BatchScheduler,
        *,
        signatures: Collection[TensorNames] | None = None,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._options = options
        self._scheduler = scheduler
        self._signatures = signatures
        self._observer = observer or BatchObserver()
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: dict[tuple[object, ...], BatchQueue] = {}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph, together with what others want of it; see :class:`Runner`.

        Raises:
            RequestError: INVALID_ARGUMENT, the tensors cannot be batched or are too
                many rows; UNAVAILABLE, too many requests wait; RESOURCE_EXHAUSTED, the
                timeout passed in the queue; FAILED_PRECONDITION, the tensors of the
                batch have different shapes, or its outputs the wrong number of rows;
                and those of the graph.
        """
        queue = self._queue(feeds, fetches)
        if queue is None:
            return self._runner.run(feeds, fetches, timeout)
        parts = self._submit(ThreadTask, queue, feeds, timeout)
        for part in parts:
            part.wait()
        return _outputs(parts, fetches)

    async def run_in_loop(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """What :meth:`run` does, for a coroutine; see :class:`LoopRunner`."""
        queue = self._queue(feeds, fetches)
        if queue is None:
            return await asyncio.to_thread(self._runner.run, feeds, fetches, timeout)
        parts = self._submit(LoopTask, queue, feeds, timeout)
        for part in parts:
            await part.done
        return _outputs(parts, fetches)

    def close(self) -> None:
        """Frees the queues and the runner. No call is running."""
        with self._lock:
            queues, self._queues = self._queues, {}
        for queue in {id(queue): queue for queue in queues.values()}.values():
            self._scheduler.detach(queue)
        self._runner.close()

    def _submit(
        self,
        kind: Callable[[Mapping[str, np.ndarray], int, float | None], _Task],
        queue: BatchQueue,
        feeds: Mapping[str, np.ndarray],
        timeout: float | None,
    ) -> list[_Task]:
        """Puts a request into its queue: as one task or, where it is split, as several."""
        rows = count_rows(feeds)
        self._observer.batch_input(rows, len(feeds))
        deadline = None if timeout is None else self._clock() + timeout
        return self._scheduler.submit(queue, kind(feeds, rows, deadline))

    def _queue(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> BatchQueue | None:
        """The queue of such requests, made for the first one; None if they have none."""
        key: tuple[object, ...] = (*feeds, None, *fetches)
        if self._options.pad_variable_length_inputs:
            # Tensors can be padded to one shape only where their ranks are equal.
            key = (*key, *(value.ndim for value in feeds.values()))
        queue = self._queues.get(key)
        if queue is not None:
            return queue
        names = frozenset(feeds), frozenset(fetches)
        if self._signatures is not None and names not in self._signatures:
            return None
        # The order of the names makes no difference.
        ranks = sorted((name, value.ndim) for name, value in feeds.items())
        outputs = sorted(set(fetches))
        if self._options.pad_variable_length_inputs:
            normal: tuple[object, ...] = ("", *ranks, None, *outputs)
        else:
            normal = ("", *(name for name, _ in ranks), None, *outputs)
        with self._lock:
            queue = self._queues.get(normal)
            if len(self._queues) >= _MAX_QUEUES:
                return queue
            if queue is None:
                queue = self._queues[normal] = BatchQueue(self._options)
                self._scheduler.attach(
                    queue, lambda batch: self._process(batch, outputs)
                )
            self._queues[key] = queue
        return queue

    def _process(self, batch: Batch, outputs: list[str]) -> None:
        try:
            tasks = self._in_time(batch.tasks)
            if tasks:
                self._run_batch(tasks, outputs)
        except RequestError as error:
            for task in tasks:
                # One each: an exception grows where it is raised.
                task.error = RequestError(error.code, error.message)
        except BaseException as error:
            for task in batch.tasks:
                task.error = RuntimeError(f"a batch failed: {type(error).__name__}")
            raise
        finally:
            finish(batch.tasks)

    def _in_time(self, tasks: list[Task]) -> list[Task]:
        """The tasks that somebody still waits for."""
        now = self._clock()
        kept = []
        for task in tasks:
            if task.deadline is None or now < task.deadline:
                kept.append(task)
            else:
                task.error = RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "Run() timeout exceeded while waiting in batching queue",
                )
        return kept

    def _run_batch(self, tasks: list[Task], outputs: list[str]) -> None:
        now = self._clock()
        rows = sum(task.rows for task in tasks)
        # Nothing can be filled up with copies of a row where there is none.
        padded_rows = self._options.padded_size(rows) if rows else 0
        self._observer.batch(
            [now - task.enqueued for task in tasks], padded_rows - rows, padded_rows
        )
        feeds = merge_feeds(
            tasks,
            padded_rows=padded_rows,
            pad_shapes=self._options.pad_variable_length_inputs,
        )
        timeout = None
        deadlines = [task.deadline for task in tasks if task.deadline is not None]
        if len(deadlines) == len(tasks):
            # The batch runs as long as anybody waits for it.
            timeout = max(deadlines) - now
        values = self._runner.run(feeds, outputs, timeout)
        split_outputs(outputs, values, tasks, padded_rows)


def _outputs(parts: Sequence[Task], fetches: Sequence[str]) -> list[np.ndarray]:
    """What came out of a request, from its parts; raises the error of the first of them."""
    for part in parts:
        if part.error is not None:
            raise part.error
    if len(parts) == 1:
        return [parts[0].outputs[name] for name in fetches]
    return [np.concatenate([part.outputs[name] for part in parts]) for name in fetches]


def batching_wrapper(
    parameters_file: str | os.PathLike[str] | None = None,
    *,
    per_model: bool = False,
    observer: BatchObserver | None = None,
) -> RunnerWrapper:
    """Batching for the versions of all models of a server, with threads in common.

    Args:
        parameters_file: A text proto of BatchingParameters; None for the defaults.
        per_model: Whether to take all but the threads from ``batching_params.pbtxt`` in
            the version's directory instead; a version without that file is not batched.
        observer: Told of each batch.

    Returns:
        What puts batching before a version's runner.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It is no such proto, or a value is outside its rule.
    """
    common = read_batching_options(parameters_file)
    scheduler = BatchScheduler(
        common.num_batch_threads, thread_name=common.thread_pool_name
    )

    def wrap(
        runner: Runner,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        path: Path,
    ) -> Runner:
        options = common
        if per_model:
            file = path / _MODEL_PARAMETERS
            if not file.exists():
                return runner
            try:
                options = read_batching_options(file, flag=_MODEL_PARAMETERS)
            except AdaptiveRecError as error:
                raise RequestError(
                    grpc.StatusCode.INVALID_ARGUMENT, str(error)
                ) from error
        return BatchingRunner(
            runner,
            options,
            scheduler,
            signatures={_tensor_names(each) for each in signatures.values()},
            observer=observer,
        )

    return wrap


def _tensor_names(signature: meta_graph_pb2.SignatureDef) -> TensorNames:
    return (
        frozenset(info.name for info in signature.inputs.values()),
        frozenset(info.name for info in signature.outputs.values()),
    )
