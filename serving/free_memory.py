"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes

__all__ = ["give_memory_back"]


def give_memory_back() -> None:
    """Makes the C library give back what has been freed; another one than GNU's may not.

    Loading a model takes and frees hundreds of megabytes. They would stay with the
    process, in pieces that the next model does not fit into.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
