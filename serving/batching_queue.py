"""The requests of one signature that wait to become a batch.

No threads and no clock of its own: whoever calls says what time it is, and guards it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Self, TypeVar

import grpc
import numpy as np

from adaptiverec.serving.batching_options import BatchingOptions
from adaptiverec.serving.status import RequestError

__all__ = ["Batch", "BatchQueue", "Task"]


class Task:
    """One request, or a part of one, and what becomes of it.

    Attributes:
        feeds: The tensors by name, each ``[rows, ...]``.
        rows: How many.
        deadline: When the caller gives up, or None.
        enqueued: When it came.
        outputs: The tensors that answer it, by name, once done.
        error: Why there are none, or None.
    """

    __slots__ = ("deadline", "enqueued", "error", "feeds", "outputs", "rows")

    def __init__(
        self, feeds: Mapping[str, np.ndarray], rows: int, deadline: float | None = None
    ) -> None:
        self.feeds = feeds
        self.rows = rows
        self.deadline = deadline
        self.enqueued = 0.0
        self.outputs: dict[str, np.ndarray] = {}
        self.error: Exception | None = None

    def part(self, start: int, end: int) -> Self:
        """A task of some of its rows, that is waited for in the same way."""
        feeds = {name: value[start:end] for name, value in self.feeds.items()}
        return type(self)(feeds, end - start, self.deadline)

    def finish(self) -> None:
        """Tells who waits that outputs or error are there; here nobody does."""


class Batch:
    """Tasks that run together.

    Attributes:
        tasks: In the order in which they came.
        rows: Of all tasks.
    """

    __slots__ = ("rows", "tasks")

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.rows = 0

    def add(self, task: Task) -> None:
        """Appends a task."""
        self.tasks.append(task)
        self.rows += task.rows


_Task = TypeVar("_Task", bound=Task)


class BatchQueue:
    """Batches of one signature: the last is open, the others are full.

    Not thread-safe.

    Args:
        options: Sizes and times.
    """

    def __init__(self, options: BatchingOptions) -> None:
        self._options = options
        self._row_limit = options.row_limit
        self._timeout = options.batch_timeout_micros / 1e6
        self._batches: deque[Batch] = deque([Batch()])
        # When the first task of the open batch came.
        self._opened = 0.0

    def add(self, task: _Task, now: float) -> list[_Task]:
        """Takes a task in, in parts if it has to be.

        Returns:
            The task itself, or the parts that stand for it.

        Raises:
            RequestError: INVALID_ARGUMENT, it has too many rows; UNAVAILABLE, the queue
                is full.
        """
        self._check_room(task)
        free = self._row_limit - self._batches[-1].rows
        if task.rows <= free or not self._options.enable_large_batch_splitting:
            parts = [task]
        else:
            parts = _split(task, free, self._row_limit)
        for part in parts:
            if self._batches[-1].rows + part.rows > self._row_limit:
                self._batches.append(Batch())
            batch = self._batches[-1]
            if not batch.tasks:
                self._opened = now
            part.enqueued = now
            batch.add(part)
        return parts

    def due(self) -> float | None:
        """From when on a batch can be taken; None where none waits."""
        if len(self._batches) > 1:
            return 0.0
        batch = self._batches[0]
        if not batch.tasks:
            return None
        if batch.rows >= self._row_limit:
            return 0.0
        return self._opened + self._timeout

    def take(self, now: float) -> Batch | None:
        """The next batch to run, if one is due."""
        due = self.due()
        if due is None or now < due:
            return None
        if len(self._batches) == 1:
            self._batches.append(Batch())
        return self._batches.popleft()

    def _check_room(self, task: Task) -> None:
        options = self._options
        if task.rows > options.max_batch_size:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Task size {task.rows} is larger than maximum input batch size "
                f"{options.max_batch_size}",
            )
        waiting, open_rows = len(self._batches), self._batches[-1].rows
        if options.enable_large_batch_splitting:
            room = (options.batch_limit - waiting + 1) * self._row_limit - open_rows
            if task.rows > room:
                raise RequestError(
                    grpc.StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is "
                    f"full; task size is {task.rows} but scheduling capacity is only "
                    f"{room} (num_enqueued_batches={waiting}, max_enqueued_batches="
                    f"{options.batch_limit}, open_batch_size={open_rows}, "
                    f"max_execution_batch_size={self._row_limit})",
                )
        elif (
            open_rows + task.rows > options.max_batch_size
            and waiting >= options.batch_limit
        ):
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {waiting} batches enqueued and max_enqueued_batches is "
                f"{options.batch_limit}",
            )


def _split(task: _Task, first: int, size: int) -> list[_Task]:
    """Parts of a task: ``first`` rows, unless that is 0, then ``size`` rows each."""
    ends = [
        *([first] if first else []),
        *range(first + size, task.rows, size),
        task.rows,
    ]
    parts = []
    start = 0
    for end in ends:
        parts.append(task.part(start, end))
        start = end
    return parts
