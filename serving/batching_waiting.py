"""How whoever has a task in a batch waits for it: as a thread, or as a coroutine.

A thread for each request would be woken by itself, and would wait for the interpreter at
each of its steps. Coroutines of an event loop are woken all at once, batch by batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from adaptiverec.serving.batching_queue import Task

__all__ = ["LoopTask", "ThreadTask", "finish"]


class ThreadTask(Task):
    """A task that a thread waits for."""

    __slots__ = ("_done",)

    def __init__(
        self, feeds: Mapping[str, np.ndarray], rows: int, deadline: float | None = None
    ) -> None:
        super().__init__(feeds, rows, deadline)
        # A lock that is held until the task is done: an Event takes ten times as long.
        self._done = threading.Lock()
        self._done.acquire()

    def wait(self) -> None:
        """Blocks until the task is done."""
        with self._done:
            pass

    def finish(self) -> None:
        """Lets :meth:`wait` return. To be called once."""
        self._done.release()


class LoopTask(Task):
    """A task that a coroutine of the running event loop waits for.

    Attributes:
        loop: The event loop.
        done: What to await.
    """

    __slots__ = ("done", "loop")

    def __init__(
        self, feeds: Mapping[str, np.ndarray], rows: int, deadline: float | None = None
    ) -> None:
        super().__init__(feeds, rows, deadline)
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def finish(self) -> None:
        """Lets who awaits go on; to be called once, in the event loop."""
        # It may have been cancelled, since its caller has gone.
        if not self.done.done():
            self.done.set_result(None)


def finish(tasks: Sequence[Task]) -> None:
    """Tells all who wait for some tasks, and wakes an event loop once for all of its own.

    Args:
        tasks: What is done, each with its outputs or its error.
    """
    loops: dict[asyncio.AbstractEventLoop, list[Task]] = {}
    for task in tasks:
        if isinstance(task, LoopTask):
            loops.setdefault(task.loop, []).append(task)
        else:
            task.finish()
    for loop, waiting in loops.items():
        # A server that has been stopped has closed its loop, and nobody waits.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish_each, waiting)


def _finish_each(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.finish()
