"""How finely the job is cut: partitions by what is read, shards by what is kept.

Both cut the range of hashes of user ids into equal parts, and one number is a multiple
of the other, so that a shard is whole partitions or a partition is whole shards.
Partitions only bound the memory; what is written does not depend on them.
"""

from __future__ import annotations

__all__ = ["num_partitions_for", "num_shards_for"]

_PARTITION_BYTES = 24 << 20
_FEW_PARTITIONS = 256
_LARGE_PARTITION_BYTES = 64 << 20
# Twice as many still have numbers of 16 bits.
_MAX_PARTITIONS = 1 << 15
# So that a file is about 20 MB: neither thousands of small ones nor few to spread.
_INTERACTIONS_A_SHARD = 1 << 20
_MAX_SHARDS = 1 << 13


def num_shards_for(num_interactions: int) -> int:
    """One shard for each 2**20 interactions, rounded up to a power of two."""
    return min(_power_of_two(num_interactions, _INTERACTIONS_A_SHARD), _MAX_SHARDS)


def num_partitions_for(text_bytes: int, num_shards: int | None) -> int:
    """The number of partitions.

    Args:
        text_bytes: How much text there is to read, about. There is a partition for each
            24 MB up to 256, and beyond that for each 64 MB, or a few more.
        num_shards: The number of shards where it is given. Where it is not, it will be
            a power of two.

    Returns:
        A power of two, or the next number that fits the given number of shards: a
        divisor of it, or it times a power of two.
    """
    few = min(_power_of_two(text_bytes, _PARTITION_BYTES), _FEW_PARTITIONS)
    wanted = min(
        max(few, _power_of_two(text_bytes, _LARGE_PARTITION_BYTES)), _MAX_PARTITIONS
    )
    if num_shards is None:
        return wanted
    if num_shards < wanted:
        return num_shards * _power_of_two(wanted, num_shards)
    return next(n for n in range(wanted, num_shards + 1) if num_shards % n == 0)


def _power_of_two(amount: int, unit: int) -> int:
    """The least power of two that many units are enough of."""
    return 1 << max(-(-amount // unit) - 1, 0).bit_length()
