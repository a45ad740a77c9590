"""The threads that run batches, shared by all models."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from adaptiverec.serving.batching_queue import Batch, BatchQueue, Task

__all__ = ["BatchScheduler"]

_Task = TypeVar("_Task", bound=Task)

_log = logging.getLogger(__name__)


class BatchScheduler:
    """Takes batches from queues in turn, and runs a few at once. Thread-safe.

    The threads live as long as there are queues.

    Args:
        num_threads: How many batches run at once.
        thread_name: What the threads are called.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        num_threads: int,
        *,
        thread_name: str = "batch_threads",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_threads = num_threads
        self._thread_name = thread_name
        self._clock = clock
        self._changed = threading.Condition(threading.Lock())
        # The queue whose turn it is stands first.
        self._queues: deque[tuple[BatchQueue, Callable[[Batch], None]]] = deque()
        self._running_threads = 0

    def attach(self, queue: BatchQueue, process: Callable[[Batch], None]) -> None:
        """Takes batches from a queue from now on.

        Args:
            queue: From now on only to be used through this object.
            process: Runs a batch, finishes its tasks, and does not raise.
        """
        with self._changed:
            self._queues.append((queue, process))
            while self._running_threads < self._num_threads:
                threading.Thread(
                    target=self._run,
                    name=f"{self._thread_name}_{self._running_threads}",
                    daemon=True,
                ).start()
                self._running_threads += 1

    def detach(self, queue: BatchQueue) -> None:
        """Forgets a queue, which must be empty."""
        with self._changed:
            self._queues = deque(pair for pair in self._queues if pair[0] is not queue)
            self._changed.notify_all()

    def submit(self, queue: BatchQueue, task: _Task) -> list[_Task]:
        """Adds a task to a queue; see :meth:`BatchQueue.add`."""
        with self._changed:
            now = self._clock()
            was_due = queue.due()
            parts = queue.add(task, now)
            # A thread must be woken to run the batch, or to wait for the time at which
            # it is due; unless one was before and nothing has changed since.
            if queue.due() != was_due:
                self._changed.notify()
            return parts

    def _run(self) -> None:
        while True:
            with self._changed:
                work = self._next()
                while work is None:
                    if not self._queues:
                        self._running_threads -= 1
                        return
                    self._changed.wait(self._seconds_to_wait())
                    work = self._next()
            process, batch = work
            try:
                process(batch)
            except Exception:
                # A bug; the thread is needed all the same.
                _log.exception("a batch was not processed")

    def _next(self) -> tuple[Callable[[Batch], None], Batch] | None:
        """The next batch that is due; the lock must be held."""
        now = self._clock()
        for _ in range(len(self._queues)):
            queue, process = self._queues[0]
            self._queues.rotate(-1)
            batch = queue.take(now)
            if batch is not None:
                if queue.due() is not None:
                    # More is waiting than this thread takes along.
                    self._changed.notify()
                return process, batch
        return None

    def _seconds_to_wait(self) -> float | None:
        times = [due for queue, _ in self._queues if (due := queue.due()) is not None]
        return max(0.0, min(times) - self._clock()) if times else None
