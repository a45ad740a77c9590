"""A thread that lets the requests' threads go first."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

__all__ = ["low_priority_thread"]

# A tenth of the share of a thread that answers.
_NICENESS = 10


def low_priority_thread(name: str) -> ThreadPoolExecutor:
    """A thread for calls of seconds, while there are fewer cores than work.

    Only for calls that do without the interpreter's lock. That knows nothing of priorities:
    a thread that is put aside while it holds the lock holds up all others, the longer the
    lower its priority is.

    On Linux a thread has a priority of its own; elsewhere it would be that of the process,
    which is left as it is.

    Args:
        name: Of the thread.
    """
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_yield_to_others)


def _yield_to_others() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # Not above that of a process which is to yield as a whole.
        lowest = max(os.getpriority(os.PRIO_PROCESS, thread), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, lowest)
