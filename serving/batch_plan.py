"""Which users each shard of a batch job is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Part", "ShardPlan", "plan_shards"]

# Some megabytes of output, some seconds of work: fine enough to spread and to retry.
_USERS_PER_SHARD = 16_384


class Part(NamedTuple):
    """Records of one prepared file.

    Attributes:
        file: Its name.
        start: The first record, counted from 0.
        stop: The record after the last.
        num_records: How many the file has.
    """

    file: str
    start: int
    stop: int
    num_records: int


class ShardPlan(NamedTuple):
    """A shard to write, and what of.

    Attributes:
        number: Its number, counted from 0.
        parts: Where its users stand, in order.
    """

    number: int
    parts: tuple[Part, ...]


def plan_shards(
    files: Sequence[tuple[str, int]], num_shards: int | None = None
) -> list[ShardPlan]:
    """Cuts users into ranges of nearly equal size.

    Args:
        files: Name and number of records of each prepared file, in order.
        num_shards: How many ranges; by default it follows from the number of users.

    Returns:
        The shards; all records are in exactly one, in order.
    """
    num_users = sum(count for _, count in files)
    if num_shards is None:
        num_shards = max(1, -(-num_users // _USERS_PER_SHARD))
    bounds = [num_users * index // num_shards for index in range(num_shards + 1)]
    shards = []
    for index in range(num_shards):
        parts, before = [], 0
        for file, count in files:
            start = max(bounds[index] - before, 0)
            stop = min(bounds[index + 1] - before, count)
            if start < stop:
                parts.append(Part(file, start, stop, count))
            before += count
        shards.append(ShardPlan(index, tuple(parts)))
    return shards
