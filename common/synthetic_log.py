"""A made-up interaction log, for the demonstration and the tests.

It has a structure that a sequence model can find and simpler ones can not. The catalogue
consists of series, such as the volumes of a manga; a user follows a few series at once,
in turns at random, and mostly takes the next volume. So what comes next depends on how
far *each* of the user's series has been followed: neither on popularity, nor, but for
one turn in a few, on the last item.

It also has the dirt of a real log: rows that cannot be parsed, exact duplicates, equal
times, and no order.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import NamedTuple

from adaptiverec.common.checks import check_at_least

__all__ = ["SyntheticLog", "write_synthetic_log"]

_SERIES_LENGTH = 25
_SERIES_OF_A_USER = 4
_CHANCE_OF_NEXT_VOLUME = 0.9
_FIRST_TIME = 1_700_000_000
_SHARE_OF_DUPLICATES = 0.01


class SyntheticLog(NamedTuple):
    """What was written.

    Attributes:
        rows: All rows below the header.
        bad_rows: Rows among them that no reader can use.
        duplicates: Rows among them that repeat an earlier one exactly.
    """

    rows: int
    bad_rows: int
    duplicates: int


def write_synthetic_log(
    path: Path, *, num_users: int = 10_000, num_items: int = 500, seed: int = 0
) -> SyntheticLog:
    """Writes a CSV log with the header `user_id,item_id,timestamp`.

    Args:
        path: The file to write.
        num_users: Users, of 20 interactions on average (10 to 30).
        num_items: Items, `item-00000` …; rounded up to whole series.
        seed: Equal seeds give equal bytes.

    Returns:
        The counts of the :class:`SyntheticLog`.
    """
    check_at_least("num_users", num_users, 1)
    check_at_least("num_items", num_items, 1)
    generator = random.Random(seed)
    num_series = max(-(-num_items // _SERIES_LENGTH), _SERIES_OF_A_USER)
    rows: list[tuple[str, ...]] = []
    for user in range(num_users):
        rows += _user_rows(generator, user, num_series)
    duplicates = generator.sample(rows, int(len(rows) * _SHARE_OF_DUPLICATES))
    bad = _bad_rows(generator, max(len(rows) // 1000, 4))
    everything = rows + duplicates + bad
    generator.shuffle(everything)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows(everything)
    return SyntheticLog(len(everything), len(bad), len(duplicates))


def _user_rows(
    generator: random.Random, user: int, num_series: int
) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    followed = generator.sample(range(num_series), _SERIES_OF_A_USER)
    volume = {series: generator.randrange(_SERIES_LENGTH) for series in followed}
    time = _FIRST_TIME + generator.randrange(86_400 * 365)
    for _ in range(generator.randint(10, 30)):
        series = generator.choice(followed)
        if generator.random() < _CHANCE_OF_NEXT_VOLUME:
            volume[series] = (volume[series] + 1) % _SERIES_LENGTH
        else:
            series = generator.randrange(num_series)
            volume[series] = generator.randrange(_SERIES_LENGTH)
        item = series * _SERIES_LENGTH + volume[series]
        row = (f"user-{user:06d}", f"item-{item:05d}", str(time))
        if row in rows:
            # Only the duplicates that are counted may be in the log.
            time += 1
            row = (*row[:2], str(time))
        rows.append(row)
        # One in ten follows within the same second.
        if generator.random() < 0.9:
            time += generator.randrange(1, 86_400)
    return rows


def _bad_rows(generator: random.Random, count: int) -> list[tuple[str, ...]]:
    kinds = (
        ("", "item-00001", "1700000000"),
        ("user-000001", "", "1700000000"),
        ("user-000001", "item-00001", "yesterday"),
        ("user-000001", "item-00001"),
    )
    return [kinds[generator.randrange(len(kinds))] for _ in range(count)]
