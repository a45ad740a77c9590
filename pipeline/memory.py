"""Memory that is free goes back to the system.

Allocators keep what was freed for later, each thread its own, and what a step used and
freed would be held through all the others.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pyarrow as pa

__all__ = ["give_back", "keep_for_reuse"]

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def _function(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        # Not the GNU C library; what others do is their own matter.
        return None


_trim = _function("malloc_trim")
_set_option = _function("mallopt")


def keep_for_reuse() -> None:
    """Lets arrays of some megabytes be freed and made again without the system's help.

    By default each of them is asked of the system, cleared by it, and given back at
    once: a sixth of the whole job. Bounded by :func:`give_back` at the end of each step.
    """
    if _set_option is not None:
        # The largest that there is; the second follows since setting one fixes both.
        _set_option(_MMAP_THRESHOLD, 32 << 20)
        _set_option(_TRIM_THRESHOLD, 256 << 20)


def give_back() -> None:
    """Gives back what this process has free; to be called seldom.

    Memory that is needed again has to be asked for and cleared again.
    """
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
