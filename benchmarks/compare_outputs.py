"""Says whether two prepared outputs are equal: vocabulary, popularity, and records.

Which users are in which shard, and in which order, does not matter; where even that is
equal the bytes are, and nothing is decoded. ::

    python benchmarks/compare_outputs.py EXPECTED ACTUAL
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np


class DifferenceError(Exception):
    """Two outputs are not equal."""


class User(NamedTuple):
    """A record, its values as bytes: less memory, and as easy to compare."""

    items: bytes
    times: bytes
    split: bytes


def compare(expected: Path, actual: Path) -> str:
    """Compares two outputs.

    Returns:
        How equal they are, in words.

    Raises:
        DifferenceError: They are not; names the first thing that differs.
    """
    for name in ("vocabulary.txt", "popularity.tsv"):
        if (expected / name).read_bytes() != (actual / name).read_bytes():
            raise DifferenceError(f"{name} differs")
    if _same_bytes(expected, actual):
        return "equal byte for byte"
    users = [read_users(path) for path in (expected, actual)]
    if users[0].keys() != users[1].keys():
        some = sorted(users[0].keys() ^ users[1].keys())[:3]
        raise DifferenceError(f"the users differ, by {some} among others")
    for user_id, record in users[0].items():
        other = users[1][user_id]
        for field in User._fields:
            if getattr(record, field) != getattr(other, field):
                raise DifferenceError(f"{field} of user {user_id!r} differ")
    return "equal content"


def _shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("sequences-*.tfrecord"))


def _same_bytes(expected: Path, actual: Path) -> bool:
    pairs = [_shards(expected), _shards(actual)]
    return [path.name for path in pairs[0]] == [path.name for path in pairs[1]] and all(
        first.read_bytes() == second.read_bytes()
        for first, second in zip(*pairs, strict=True)
    )


def read_users(directory: Path) -> dict[bytes, User]:
    """All records of an output by user, read with TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    users = {}
    for path in _shards(directory):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            (user_id,) = feature["user_id"].bytes_list.value
            if user_id in users:
                raise DifferenceError(
                    f"user {user_id!r} has two records in {directory}"
                )
            users[user_id] = User(
                *(
                    np.array(feature[name].int64_list.value, np.int64).tobytes()
                    for name in ("item_ids", "timestamps", "split")
                )
            )
    return users


def main() -> int:
    """Compares the two directories named on the command line."""
    try:
        print(compare(Path(sys.argv[1]), Path(sys.argv[2])))
    except DifferenceError as difference:
        print(difference, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
