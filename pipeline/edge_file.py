"""Integers on a worker's disk: written once, then gathered from anywhere.

The file has no name, so whatever ends the process also frees the room. It is read
through a memory map, and pages that were read are given back again and again, so that
the resident memory does not grow with the file.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator

import numpy as np

__all__ = ["EdgeFile"]

# How much of a gathering is in memory at a time, in values.
_AT_ONCE = 1 << 20
# A read maps the pages around it too. So much of the file, or so many scattered reads,
# may be resident before it is given back.
_WINDOW = 1 << 24
_READS = 1 << 10


class EdgeFile:
    """A file of int32 values. Appended to first, then only read; closes on exit.

    Args:
        directory: Where the file is; None for the system's temporary directory.
    """

    def __init__(self, directory: str | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._map: mmap.mmap | None = None
        self._num_values = 0
        self._reads = 0

    def __enter__(self) -> EdgeFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()
        self._file.close()

    def __len__(self) -> int:
        return self._num_values

    def append(self, values: np.ndarray) -> None:
        """Appends int32 values."""
        self._file.write(np.ascontiguousarray(values, np.int32).data)
        self._num_values += len(values)

    def chunks(self) -> Iterator[np.ndarray]:
        """All values in their order, a part at a time."""
        for start in range(0, self._num_values, _AT_ONCE):
            count = min(_AT_ONCE, self._num_values - start)
            yield self._view()[start : start + count].copy()
            self._give_back()

    def gather(self, starts: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """The values of some ranges, one after the other, a part at a time.

        Args:
            starts: Where each range begins, ascending, int64 of shape [m].
            lengths: How long each is, int64 of shape [m].

        Yields:
            int32 arrays that add up to all the values.
        """
        ends = np.cumsum(lengths)
        first = 0
        while first < len(starts):
            done = int(ends[first] - lengths[first])
            last = min(
                int(np.searchsorted(ends, done + _AT_ONCE, "right")),
                int(np.searchsorted(starts, starts[first] + _WINDOW)),
            )
            if last <= first:
                yield from self._long_range(int(starts[first]), int(lengths[first]))
                last = first + 1
            else:
                part = slice(first, last)
                before = ends[part] - lengths[part] - done
                places = np.repeat(starts[part] - before, lengths[part])
                places += np.arange(len(places))
                yield self._view()[places]
                self._reads += last - first
            if self._reads >= _READS:
                self._give_back()
            first = last

    def _long_range(self, start: int, length: int) -> Iterator[np.ndarray]:
        for begin in range(start, start + length, _AT_ONCE):
            end = min(begin + _AT_ONCE, start + length)
            yield self._view()[begin:end].copy()
            self._give_back()

    def _view(self) -> np.ndarray:
        if not self._num_values:
            return np.zeros(0, np.int32)
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(self._map, np.int32)

    def _give_back(self) -> None:
        self._reads = 0
        # What systems without it do is their own matter.
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
