"""Lets workers report progress where they share the driver's process.

The local runner's worker threads do; on any other runner nobody listens, and a report
costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adaptiverec.common.progress import Steps

__all__ = ["advance", "listening"]

_listener: Steps | None = None


def advance(name: str, units: int = 1) -> None:
    """Counts units of a step as done, if somebody listens."""
    listener = _listener
    if listener is not None:
        listener.advance(name, units)


@contextmanager
def listening(steps: Steps) -> Iterator[None]:
    """Sends reports to ``steps`` while the block runs."""
    global _listener
    previous, _listener = _listener, steps
    try:
        yield
    finally:
        _listener = previous
