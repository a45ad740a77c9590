"""What clocks show somewhere to microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

__all__ = ["Clock", "clock_of"]

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_MAX = 2**63 - 1
# Python knows the years 1 to 9999. Before and after, clocks go as at the ends of them.
_FIRST = (datetime.min - _EPOCH) // _MICROSECOND
_LAST = (datetime.max - _EPOCH) // _MICROSECOND
# Where clocks are as far ahead at both ends of so short a time, they are throughout.
_WINDOW = 3 * 3_600_000_000


class Clock:
    """A time zone's clocks.

    As with Python's ``datetime``: a time that the clocks showed twice is the first of
    the two, and one that they skipped is as much later.

    Args:
        zone: A name such as ``Europe/London``.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        # How far ahead clocks are at the beginning of each window asked for yet.
        self._known: dict[int, int] = {}

    def to_utc(self, local: np.ndarray) -> np.ndarray:
        """Converts times.

        Args:
            local: int64 of shape [n]: what the clocks show, in microseconds since they
                showed 1970-01-01.

        Returns:
            int64 of shape [n] in microseconds since 1970-01-01 UTC; times beyond what
            64 bits hold are held at their ends.
        """
        if not len(local):
            return local
        distinct, places = np.unique(local // _WINDOW, return_inverse=True)
        begins = np.array([self._at_window(window) for window in distinct.tolist()])
        ends = np.array([self._at_window(window + 1) for window in distinct.tolist()])
        ahead = begins[places]
        for row in np.flatnonzero((begins != ends)[places]):
            ahead[row] = self._ahead(int(local[row]))
        # Python's integers do not overflow; few times are near the ends.
        day = 86_400_000_000
        if local.min() < -_MAX + day or local.max() > _MAX - day:
            exact = [
                min(max(int(shown) - int(by), -_MAX), _MAX)
                for shown, by in zip(local, ahead, strict=True)
            ]
            return np.array(exact, np.int64)
        return local - ahead

    def _at_window(self, window: int) -> int:
        if window not in self._known:
            self._known[window] = self._ahead(window * _WINDOW)
        return self._known[window]

    def _ahead(self, local: int) -> int:
        """By how many microseconds clocks that show a time are ahead of UTC."""
        shown = _EPOCH + timedelta(microseconds=min(max(local, _FIRST), _LAST))
        offset = shown.replace(tzinfo=self._zone).utcoffset()
        return (offset or timedelta(0)) // _MICROSECOND


class _Utc(Clock):
    def __init__(self) -> None:
        """Needs no data of time zones."""

    def to_utc(self, local: np.ndarray) -> np.ndarray:
        return local


@lru_cache
def clock_of(zone: str) -> Clock:
    """The clocks of a time zone, remembered."""
    return _Utc() if zone == UTC.tzname(None) else Clock(zone)
