"""Makes the logs that the benchmarks read: CSV with the columns user, item and time.

Three kinds: ``even``, where users are alike and items have the long tail of real ones;
``hot``, the same but half of all rows are of one user; and two sparse ones of which all
but an even part peels off, ``chains`` link by link and ``pairs`` at once.

A link of a chain is a user and an item that have just the five interactions that they
need: three with each other and two with the next link. Only the ends of a chain have
too few, and each round takes off nothing but the two ends. ``pairs`` has as many rows
and users, and the same rows stay; but every second user and item has four interactions
and the others six, most of them with the former, so that all go in one round.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

SCHEMA = pa.schema([("user", pa.string()), ("item", pa.string()), ("time", pa.int64())])
# Of a link of a chain, and of what one link has with the next.
_INTERACTIONS, _SHARED = 5, 2
_CHUNK = 1 << 20
_FIRST, _LAST = 1_300_000_000, 1_700_000_000
# The part of a sparse log that is chains or pairs.
_SPARSE = 0.5


class Rows(NamedTuple):
    """Rows by numbers of users and items; int64 of shape [n] each."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray


def even_rows(
    rows: int, users: int, items: int, *, hot: bool = False, seed: int = 0
) -> Iterator[Rows]:
    """Rows of users that are alike; with ``hot``, every second one is of user 0."""
    rng = np.random.default_rng(seed)
    for start in range(0, rows, _CHUNK):
        n = min(_CHUNK, rows - start)
        item = (items * rng.random(n) ** 2).astype(np.int64)
        user = rng.integers(0, users, n)
        if hot:
            user[::2] = 0
        yield Rows(user, item, rng.integers(_FIRST, _LAST, n))


def chain_edges(chains: int, links: int) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each interaction of some chains; see the top of this file."""
    link = np.arange(chains * links)
    # A chain of n links has n + 1 items: the last one of its last user's.
    item = link + link // links
    own = _INTERACTIONS - _SHARED
    users = np.concatenate([np.repeat(link, own), np.repeat(link, _SHARED)])
    return users, np.concatenate([np.repeat(item, own), np.repeat(item + 1, _SHARED)])


def pair_edges(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each interaction of some pairs; see the top of this file."""
    few = 2 * np.arange(pairs)
    many = few + 1
    less = _INTERACTIONS - 1
    users = np.concatenate([np.repeat(few, less), np.repeat(many, less + _SHARED)])
    items_of_many = np.stack([few] * less + [many] * _SHARED, axis=1)
    return users, np.concatenate([np.repeat(many, less), items_of_many.reshape(-1)])


def sparse_rows(kind: str, rows: int, users: int, items: int, links: int) -> Rows:
    """An even log mixed with chains or pairs."""
    chains = int(rows * _SPARSE) // (_INTERACTIONS * links)
    if kind == "chains":
        extra_users, extra_items = chain_edges(chains, links)
    else:
        extra_users, extra_items = pair_edges(chains * links // 2)
    even = [*even_rows(rows - len(extra_users), users, items)]
    rng = np.random.default_rng(1)
    # The times of the sparse part are distinct: no interaction is a duplicate.
    extra_times = _FIRST + rng.permutation(len(extra_users))
    parts = [*even, Rows(users + extra_users, items + extra_items, extra_times)]
    order = rng.permutation(rows)
    return Rows(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def count_rounds(users: np.ndarray, items: np.ndarray) -> tuple[int, int]:
    """Peels round by round, as a script would: rare items first, then rare users.

    Returns:
        The number of rounds that dropped something, and of interactions left.
    """
    rounds = 0
    while True:
        before = len(users)
        for side in (0, 1):
            column = (items, users)[side]
            stays = (np.bincount(column) >= _INTERACTIONS)[column]
            users, items = users[stays], items[stays]
        if len(users) == before:
            return rounds, before
        rounds += 1


def batches(parts: Iterator[Rows]) -> Iterator[pa.RecordBatch]:
    """Rows with ids such as ``u12`` and ``i3``, in batches."""
    for part in parts:
        for start in range(0, len(part.users), _CHUNK):
            users, items, times = (
                pa.array(column[start : start + _CHUNK]) for column in part
            )
            yield pa.record_batch([_ids("u", users), _ids("i", items), times], SCHEMA)


def _ids(letter: str, numbers: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(letter, numbers.cast(pa.string()), "")


def write_log(path: Path, parts: Iterator[Rows]) -> None:
    """Writes a log; appears under its name only when it is whole."""
    unfinished = path.with_name(path.name + ".part")
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    with pyarrow.csv.CSVWriter(unfinished, SCHEMA, write_options=options) as writer:
        for batch in batches(parts):
            writer.write_batch(batch)
    unfinished.rename(path)


def main() -> None:
    """Makes a log."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument(
        "--kind", choices=["even", "hot", "chains", "pairs"], default="even"
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--links", type=int, default=1_000, help="of a chain")
    given = parser.parse_args()
    sizes = (given.rows, given.users, given.items)
    if given.kind in ("even", "hot"):
        write_log(given.path, even_rows(*sizes, hot=given.kind == "hot"))
    else:
        rows = sparse_rows(given.kind, *sizes, given.links)
        write_log(given.path, iter([rows]))


if __name__ == "__main__":
    main()
