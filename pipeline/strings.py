"""Arrow string arrays as numpy sees them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

__all__ = ["offsets_and_bytes"]


def offsets_and_bytes(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The buffers behind a string or binary array, without copying.

    Args:
        strings: An array of type string or binary with n values and no nulls.

    Returns:
        ``(offsets, data)``: value i is ``data[offsets[i]:offsets[i + 1]]``; int32 of
        shape [n + 1], and uint8.
    """
    _, offset_buffer, data_buffer = strings.buffers()
    if offset_buffer is None or len(strings) == 0:
        return np.zeros(len(strings) + 1, np.int32), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)
    offsets = offsets[strings.offset : strings.offset + len(strings) + 1]
    if data_buffer is None:
        return offsets, np.zeros(0, np.uint8)
    return offsets, np.frombuffer(data_buffer, np.uint8)
