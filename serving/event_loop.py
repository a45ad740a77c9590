"""An event loop in a thread of its own, for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import uvloop

__all__ = ["EventLoopThread"]

_Result = TypeVar("_Result")


class EventLoopThread:
    """Runs an event loop until it is closed. Thread-safe.

    Args:
        name: What the thread is called.
        workers: Threads of what coroutines hand over by ``asyncio.to_thread``.
    """

    def __init__(self, name: str, workers: int) -> None:
        # It answers more requests a second than asyncio's own loop.
        self._loop = uvloop.new_event_loop()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._loop.set_default_executor(self._workers)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"{name} loop", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Runs a coroutine there, and waits for it; raises what it raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Ends the loop; what its workers still do is not waited for."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._workers.shutdown(wait=False)
