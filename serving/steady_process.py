"""Settings of a process that does nothing but serve, so that no request waits for Python."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["steady_process"]

# A thread that wants the interpreter waits so long for one that keeps it, at each of its
# steps. With Python's own 5 ms, requests pile up while a version is loaded.
_SWITCH_INTERVAL_SECONDS = 0.001


@contextmanager
def steady_process() -> Iterator[None]:
    """Imports what a server needs, and keeps Python from stopping it later on.

    TensorFlow leaves so many objects behind that looking through them for garbage stops
    all threads for a quarter of a second, again and again. They stay as long as the
    process, so they are not looked at any more; models that are loaded later are.
    """
    from adaptiverec.serving import grpc_server, servable, server_core  # noqa: F401

    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
