import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline import hashing

MASK = 2**64 - 1


def mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def plain_hash(text: str) -> int:
    """The documented hash, one string and one word at a time."""
    data = text.encode()
    state = mix(len(data) * 0x9E3779B97F4A7C15 & MASK)
    for start in range(0, len(data), 8):
        word = int.from_bytes(data[start : start + 8], "little")
        state = mix((state ^ word) + 0x9E3779B97F4A7C15 & MASK)
    return state


@given(st.lists(st.text(max_size=40)), st.integers(0, 3))
def test_equals_the_documented_hash(texts, skipped):
    array = pa.array(texts, pa.string())
    hashes = hashing.hash_strings(array.slice(skipped))
    assert hashes.tolist() == [plain_hash(text) for text in texts[skipped:]]


def test_is_pinned():
    # Changing the hash changes every shard and every order of ties.
    hashes = hashing.hash_strings(pa.array(["", "a", "user-42", "12345678", "x" * 33]))
    assert [f"{value:016x}" for value in hashes] == PINNED


def test_is_the_same_in_another_process():
    code = (
        "import pyarrow as pa; from adaptiverec.pipeline import hashing;"
        "print(hashing.hash_strings(pa.array(['user-42']))[0])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert int(other.stdout) == plain_hash("user-42")


@given(st.integers(1, 65_535), st.lists(st.integers(0, MASK), max_size=20))
def test_partitions_are_in_range_and_follow_the_upper_bits(count, hashes):
    partitions = hashing.partition_of(np.array(hashes, np.uint64), count)
    assert partitions.tolist() == [(h >> 32) * count >> 32 for h in hashes]


def test_partitions_are_even():
    ids = pa.array([f"user-{n}" for n in range(30_000)])
    counts = np.bincount(hashing.partition_of(hashing.hash_strings(ids), 30))
    # A thousand each; 160 is more than five standard deviations.
    assert np.abs(counts - 1000).max() < 160


def test_combined_hashes_depend_on_both_and_on_their_order():
    a, b, c = hashing.hash_strings(pa.array(["a", "b", "c"])).reshape(3, 1)
    pairs = [(a, b), (b, a), (a, c), (c, b), (a, a)]
    assert len({int(hashing.combine_hashes(x, y)[0]) for x, y in pairs}) == len(pairs)


PINNED = [
    "0000000000000000",
    "8fcc9d57ed83f50d",
    "f37a04bf6e16328a",
    "fd4700adc592e838",
    "47e9b505594d6377",
]
