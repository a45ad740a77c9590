import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline.sizes import num_partitions_for, num_shards_for

MEGABYTE = 2**20


@pytest.mark.parametrize(
    ("interactions", "shards"),
    [
        (0, 1),
        (2**20, 1),
        (2**20 + 1, 2),
        (3 * 2**20, 4),
        (10_000_000, 16),
        (40_000_000, 64),
        (10**12, 8192),
    ],
)
def test_shards_follow_from_what_is_kept(interactions, shards):
    assert num_shards_for(interactions) == shards


@pytest.mark.parametrize(
    ("megabytes", "partitions"),
    [
        (0, 1),
        (24, 1),
        (25, 2),
        (500, 32),
        # From 6 GB to 16 GB partitions grow, then they become more again.
        (6 * 1024, 256),
        (16 * 1024, 256),
        (17 * 1024, 512),
        (10**9, 32_768),
    ],
)
def test_partitions_follow_from_what_is_read(megabytes, partitions):
    assert num_partitions_for(megabytes * MEGABYTE, None) == partitions


@pytest.mark.parametrize(
    ("megabytes", "shards", "partitions"),
    [
        (0, 5, 1),
        (0, 10_000, 1),
        # Wanted are 32: the next divisor, or the number itself doubled.
        (500, 100, 50),
        (500, 7, 56),
        (500, 97, 97),
        (500, 32, 32),
    ],
)
def test_given_shards_fit(megabytes, shards, partitions):
    assert num_partitions_for(megabytes * MEGABYTE, shards) == partitions


@given(st.integers(0, 2**50), st.integers(1, 10_000))
def test_one_is_always_a_multiple_of_the_other(text_bytes, shards):
    partitions = num_partitions_for(text_bytes, shards)
    assert partitions % shards == 0 or shards % partitions == 0
    assert partitions >= num_partitions_for(text_bytes, None)
    # Partition numbers have 16 bits.
    assert partitions < 2**16
