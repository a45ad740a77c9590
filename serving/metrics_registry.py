"""Counters and histograms with labels, and how Prometheus reads them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Counter", "Histogram", "exponential"]

# A label that a caller chooses, such as the name of a model that there is not, must not
# fill the memory: what comes after so many is counted together.
_MAX_CELLS = 1000
_OTHER = "(other)"


def exponential(scale: float, factor: float, count: int) -> list[float]:
    """The upper limits of ``count`` buckets, each ``factor`` times the one before."""
    return [scale * factor**power for power in range(count)]


class Counter:
    """Numbers that only grow, one for each combination of labels. Thread-safe.

    Args:
        name: The name, in Prometheus' letters.
        labels: Names of the labels.
    """

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self._labels = labels
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], float] = {}

    def add(self, amount: float, *labels: str) -> None:
        """Adds to the number with these values of the labels."""
        with self._lock:
            labels = _bounded(labels, self._cells)
            self._cells[labels] = self._cells.get(labels, 0) + amount

    def first(self) -> int:
        """The number with the labels that stand first in order; 0 where there is none."""
        with self._lock:
            return int(self._cells[min(self._cells)]) if self._cells else 0

    def lines(self) -> Iterator[str]:
        """What Prometheus reads."""
        with self._lock:
            cells = dict(self._cells)
        yield f"# TYPE {self.name} counter"
        for labels, value in sorted(cells.items()):
            yield f"{self.name}{{{_written(self._labels, labels)}}} {int(value)}"


class _Cell:
    """A histogram with one combination of labels."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Histogram:
    """How often values fell between limits, for each combination of labels. Thread-safe.

    Args:
        name: The name, in Prometheus' letters.
        limits: Upper limits of the buckets, increasing; there is one more without limit.
        labels: Names of the labels.
    """

    def __init__(self, name: str, limits: Sequence[float], *labels: str) -> None:
        self.name = name
        self._limits = list(limits)
        self._labels = labels
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], _Cell] = {}

    def add(self, value: float, *labels: str, times: int = 1) -> None:
        """Notes a value with these values of the labels, so many times."""
        # As in TensorFlow, a value that is just the limit is in the bucket above.
        bucket = bisect_right(self._limits, value)
        with self._lock:
            labels = _bounded(labels, self._cells)
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._cells[labels] = _Cell(len(self._limits) + 1)
            cell.counts[bucket] += times
            cell.total += value * times

    def lines(self) -> Iterator[str]:
        """What Prometheus reads."""
        with self._lock:
            cells = [
                (labels, list(cell.counts), cell.total)
                for labels, cell in sorted(self._cells.items())
            ]
        yield f"# TYPE {self.name} histogram"
        # Six digits, as there.
        limits = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
        for labels, counts, total in cells:
            written = _written(self._labels, labels)
            prefix = f"{self.name}_bucket{{{written}{',' if written else ''}"
            number = 0
            for limit, count in zip(limits, counts, strict=True):
                number += count
                yield f'{prefix}le="{limit}"}} {number}'
            yield f"{self.name}_sum{{{written}}} {total:.17g}"
            yield f"{self.name}_count{{{written}}} {number}"


def _bounded(
    labels: tuple[str, ...], cells: Mapping[tuple[str, ...], object]
) -> tuple[str, ...]:
    if len(cells) < _MAX_CELLS or labels in cells:
        return labels
    return (_OTHER,) * len(labels)


def _written(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
