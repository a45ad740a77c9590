"""What all rivals have to agree on with ``prepare``, so that their output is the same.

Users are ordered by the hash of their id, then by the id; shards are cut from that
order, one for each million of kept interactions, rounded up to a power of two; and
interactions of equal time are ordered by a hash of user and item.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline.contract import POPULARITY, VOCABULARY
from adaptiverec.pipeline.hashing import (
    combine_hashes,
    hash_strings,
    partition_of,
)

__all__ = [
    "MICROSECONDS",
    "MIN_INTERACTIONS",
    "combine_hashes",
    "hash_strings",
    "num_shards",
    "partition_of",
    "run",
    "split_ends",
    "to_arrow",
    "write_digests",
    "write_popularity",
    "write_vocabulary",
]

# Of a user and of an item.
MIN_INTERACTIONS = 5
# In a second, the unit of the logs.
MICROSECONDS = 1_000_000
_INTERACTIONS_OF_A_SHARD = 1 << 20


def num_shards(num_interactions: int) -> int:
    """How many shards the kept interactions make."""
    wanted = -(-num_interactions // _INTERACTIONS_OF_A_SHARD)
    return 1 << max(wanted - 1, 0).bit_length()


def to_arrow(strings: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Strings in the one form that :func:`hash_strings` takes."""
    strings = strings.cast(pa.string())
    return strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings


def split_ends(lengths: np.ndarray) -> np.ndarray:
    """Leave-one-out: the ends of the training and the validation part, [n, 2]."""
    held_out = np.where(lengths >= 3, 1, 0)
    return np.stack([lengths - 2 * held_out, lengths - held_out], axis=1)


def write_vocabulary(output: Path, items: list[str]) -> None:
    """Writes ``vocabulary.txt``."""
    (output / VOCABULARY).write_text("".join(f"{item}\n" for item in items), "utf-8")


def write_popularity(
    output: Path,
    items: Iterable[str],
    interactions: Iterable[int],
    train_interactions: Iterable[int],
) -> None:
    """Writes ``popularity.tsv``; what is given is in the order of the vocabulary."""
    rows = zip(items, interactions, train_interactions, strict=True)
    lines = ["item_id\tinteractions\ttrain_interactions\n"]
    lines += [f"{item}\t{count}\t{train}\n" for item, count, train in rows]
    (output / POPULARITY).write_text("".join(lines), "utf-8")


def write_digests(output: Path, digests: dict[str, str] | None = None) -> None:
    """Writes the SHA-256 of each shard, by default of what is there."""
    if digests is None:
        digests = {}
        for path in sorted(output.glob("*.tfrecord")):
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    (output / "digests.json").write_text(json.dumps(digests), "utf-8")


def run(prepare: Callable[[str, Path], None]) -> None:
    """Runs a rival by the command line, ``LOG OUTPUT``; says its seconds as JSON.

    By now the rival has imported what it needs, so the seconds are without that.
    """
    log, output = sys.argv[1], Path(sys.argv[2])
    begin = time.perf_counter()
    output.mkdir()
    prepare(log, output)
    print(json.dumps({"seconds": time.perf_counter() - begin}))
