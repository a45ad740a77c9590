"""Memory that is free goes back to the system.

Allocators keep what was freed for later, each thread its own, and what a step used and
freed would be held through all the others.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pyarrow as pa

__all__ = ["give_back"]


def _trim_function() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        # Not the GNU C library; what others do is their own matter.
        return None


_trim = _trim_function()


def give_back() -> None:
    """Gives back what this process has free; to be called seldom.

    Memory that is needed again has to be asked for and cleared again.
    """
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
