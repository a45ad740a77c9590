r"""Prepares a log as the published results of its data set order it.

Amazon's review times are whole days. On Beauty, 44 % of all neighbouring interactions of a
user, and the last two of 43 % of the users, have the same time, so the tie rule chooses the
targets. Published sequences are sorted by time alone, by a stable sort of a file that is
grouped by item: ties stand in the order of item ids. Ids that were given one after the
other often belong to one brand or product line, so this order tells a model something, and
results are higher than with the order that ``prepare`` gives by itself, which tells
nothing. Only figures of the same order can be compared. ::

    python published_order.py --log interactions.csv.gz --output ranked.csv \
        --user-column reviewerID --item-column asin --time-column unixReviewTime

writes the log with a column ``rank``, for ``adaptiverec prepare --order-column rank``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

RANK = "rank"


def rank_by_time(users: list[str], times: list[int]) -> list[int]:
    """The place of each row in its user's history, ties in the order of the rows.

    Args:
        users: The user of each row.
        times: The time of each row.

    Returns:
        For each row how many rows of its user come before it.
    """
    ranks = [0] * len(users)
    counts: dict[str, int] = {}
    # Python's sort is stable.
    for row in sorted(range(len(users)), key=times.__getitem__):
        ranks[row] = counts.get(users[row], 0)
        counts[users[row]] = ranks[row] + 1
    return ranks


def add_ranks(
    lines: Iterable[str], *, user_column: str, item_column: str, time_column: str
) -> Iterator[list[str]]:
    """The columns of a CSV log and the rank, header first, ties by item id.

    Args:
        lines: Of the CSV file.
        user_column: Its column of user ids.
        item_column: Its column of item ids; in a file grouped by item, their order is the
            file's.
        time_column: Its column of times, whole numbers.

    Yields:
        The header, then the rows, in the order of item ids.
    """
    header, *rows = csv.reader(lines)
    columns = [header.index(name) for name in (user_column, item_column, time_column)]
    user, item, time = columns
    rows.sort(key=lambda row: row[item])
    ranks = rank_by_time([row[user] for row in rows], [int(row[time]) for row in rows])
    yield [*(header[column] for column in columns), RANK]
    for row, rank in zip(rows, ranks, strict=True):
        yield [*(row[column] for column in columns), str(rank)]


def main() -> None:
    """Writes the ranked log."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("log", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("user", "item", "time"):
        parser.add_argument(f"--{name}-column", required=True)
    given = parser.parse_args()
    opened = gzip.open if given.log.suffix == ".gz" else open
    with opened(given.log, "rt", encoding="utf-8", newline="") as lines:
        rows = add_ranks(
            lines,
            user_column=given.user_column,
            item_column=given.item_column,
            time_column=given.time_column,
        )
        with given.output.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
