"""Progress of long steps: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Steps", "say", "steps"]

# Often enough to show life in a log file, seldom enough not to fill it.
_PLAIN_LINE_SECONDS = 10.0


# The bars being drawn, if any: a line printed past them would tear them.
_drawn: Progress | None = None


def say(message: str) -> None:
    """Prints one line about the work to standard error; results go to standard output."""
    if _drawn is not None:
        from rich.text import Text

        _drawn.console.print(Text(message), soft_wrap=True)
    else:
        print(message, file=sys.stderr, flush=True)


class Steps:
    """The steps of one job, each with a name and a count. Thread-safe."""

    def start(self, name: str, total: int | None = None) -> None:
        """Begins a step, or sets the total of one that has begun.

        Args:
            name: What is done, for instance "Reading".
            total: How many units the step has, if known.
        """
        raise NotImplementedError

    def advance(self, name: str, units: int = 1) -> None:
        """Counts units of a step as done; an unknown name is started."""
        raise NotImplementedError

    def note(self, name: str, text: str) -> None:
        """Shows a short text, such as a loss, beside a step."""
        raise NotImplementedError

    def finish(self, name: str) -> None:
        """Takes a step off the display, its line being said otherwise."""
        raise NotImplementedError


class _Bars(Steps):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def start(self, name: str, total: int | None = None) -> None:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total, note="")
            elif total is not None:
                self._progress.update(self._tasks[name], total=total)

    def advance(self, name: str, units: int = 1) -> None:
        self.start(name)
        self._progress.advance(self._tasks[name], units)

    def note(self, name: str, text: str) -> None:
        self.start(name)
        self._progress.update(self._tasks[name], note=text)

    def finish(self, name: str) -> None:
        with self._lock:
            self._progress.remove_task(self._tasks.pop(name))


class _Lines(Steps):
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._note: dict[str, str] = {}
        self._printed: dict[str, tuple[int, str]] = {}
        self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def start(self, name: str, total: int | None = None) -> None:
        with self._lock:
            self._done.setdefault(name, 0)
            if total is not None or name not in self._total:
                self._total[name] = total

    def advance(self, name: str, units: int = 1) -> None:
        self.start(name)
        with self._lock:
            self._done[name] += units
            if time.monotonic() - self._last_line >= _PLAIN_LINE_SECONDS:
                self._print(name)

    def note(self, name: str, text: str) -> None:
        self.start(name)
        with self._lock:
            self._note[name] = text

    def finish(self, name: str) -> None:
        with self._lock:
            del self._done[name]

    def close(self) -> None:
        with self._lock:
            for name in self._done:
                self._print(name)

    def _print(self, name: str) -> None:
        state = (self._done[name], self._note.get(name, ""))
        if self._printed.get(name) == state:
            return
        self._printed[name] = state
        self._last_line = time.monotonic()
        total = self._total[name]
        count = f"{state[0]:,}" + (f"/{total:,}" if total is not None else "")
        print(f"{name}: {count} {state[1]}".rstrip(), file=self._stream, flush=True)


@contextmanager
def steps(*, stream: TextIO | None = None) -> Iterator[Steps]:
    """Shows the steps of one job while the block runs.

    Args:
        stream: Where to; standard error by default. Bars are drawn where it is a
            terminal; elsewhere a plain line at most every ten seconds, and one for each
            step at the end.

    Yields:
        The :class:`Steps` to report to.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        lines = _Lines(stream)
        try:
            yield lines
        finally:
            lines.close()
        return
    # Only here: a library that merely says something need not load it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    global _drawn
    with Progress(*columns, console=Console(file=stream)) as progress:
        _drawn = progress
        try:
            yield _Bars(progress)
        finally:
            _drawn = None
