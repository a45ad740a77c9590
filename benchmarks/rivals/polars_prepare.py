"""The fastest script that we could write with polars and numpy for the same work.

Ids become integers as soon as the file is read, in the order that the output wants;
user, time and item then fit one 64-bit key, so that one sort orders all rows and brings
duplicates together. Counting is ``bincount``, ties are looked at only where there are
some, and records are encoded by our own encoder, on all cores. ::

    python benchmarks/rivals/polars_prepare.py LOG OUTPUT
"""

from __future__ import annotations

import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import rules

from adaptiverec.pipeline import tfrecord
from adaptiverec.pipeline.contract import shard_name
from adaptiverec.pipeline.example_encoding import encode_examples

SCHEMA = {"user": pl.String, "item": pl.String, "time": pl.Int64}
# Encoded at once, so that what is encoded stays small.
_USERS_AT_ONCE = 4096


class Ids(NamedTuple):
    """Distinct ids in the order of their codes, and their hashes, uint64."""

    strings: pl.Series
    hashes: np.ndarray


class Rows(NamedTuple):
    """Interactions: codes of users and items, and times; integers of shape [n] each."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def where(self, kept: np.ndarray) -> Rows:
        """Some of them."""
        return Rows(*(column[kept] for column in self))


def prepare(log: str, output: Path) -> None:
    """Prepares a log."""
    rows, users, items = read(log)
    rows = order_ties(k_core(sort_distinct(rows)), users, items)
    counts = np.bincount(rows.items, minlength=len(items.strings))
    # Codes of items are by the bytes of their ids, which breaks ties of counts.
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    dense = np.zeros(len(counts), np.int64)
    dense[order] = np.arange(1, len(order) + 1)
    lengths = np.bincount(rows.users, minlength=len(users.strings))
    item_ids = items.strings[order].to_list()
    rules.write_vocabulary(output, item_ids)
    rules.write_popularity(
        output,
        item_ids,
        counts[order].tolist(),
        count_training(rows, lengths, len(counts))[order].tolist(),
    )
    write_shards(output, rows, users, lengths, dense)


def read(log: str) -> tuple[Rows, Ids, Ids]:
    """Reads the file; users are coded by hash, items by the bytes of their ids."""
    text = pl.read_csv(log, schema=SCHEMA)
    # Half the processor time of two streaming passes over the file.
    unique = pl.collect_all(
        text.lazy().select(pl.col(column).unique().sort())
        for column in ("user", "item")
    )
    users, items = (hashed(frame.to_series()) for frame in unique)
    # Stable, so that the bytes of their ids order users of the same hash.
    by_hash = np.argsort(users.hashes, kind="stable")
    users = Ids(users.strings[by_hash], users.hashes[by_hash])
    coded = text.select(
        pl.col("user").cast(pl.Enum(users.strings)).to_physical().cast(pl.UInt32),
        pl.col("item").cast(pl.Enum(items.strings)).to_physical().cast(pl.UInt32),
        "time",
    )
    return Rows(*(column.to_numpy() for column in coded.get_columns())), users, items


def hashed(strings: pl.Series) -> Ids:
    """Ids with their hashes."""
    return Ids(strings, rules.hash_strings(rules.to_arrow(strings.to_arrow())))


def sort_distinct(rows: Rows) -> Rows:
    """Sorts by user, time and item, and drops exact duplicates."""
    first = int(rows.times.min())
    item_bits = int(rows.items.max()).bit_length()
    time_bits = (int(rows.times.max()) - first).bit_length()
    shift = np.uint64(item_bits), np.uint64(item_bits + time_bits)
    if item_bits + time_bits + int(rows.users.max()).bit_length() > 64:
        frame = pl.DataFrame(rows._asdict()).unique().sort("users", "times", "items")
        return Rows(*(column.to_numpy() for column in frame.get_columns()))
    key = rows.users.astype(np.uint64) << shift[1]
    key |= (rows.times - first).astype(np.uint64) << shift[0]
    key |= rows.items
    key = pl.Series(key).sort().to_numpy()
    distinct = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=distinct[1:])
    if not distinct.all():
        key = key[distinct]
    times = (key >> shift[0]) & np.uint64((1 << time_bits) - 1)
    return Rows(
        (key >> shift[1]).astype(np.uint32),
        (key & np.uint64((1 << item_bits) - 1)).astype(np.uint32),
        times.astype(np.int64) + first,
    )


def k_core(rows: Rows) -> Rows:
    """Drops rare users and items until there are none."""
    while True:
        few = []
        for codes in (rows.users, rows.items):
            counts = np.bincount(codes)
            few.append((counts > 0) & (counts < rules.MIN_INTERACTIONS))
        if not few[0].any() and not few[1].any():
            return rows
        rows = rows.where(~(few[0][rows.users] | few[1][rows.items]))


def order_ties(rows: Rows, users: Ids, items: Ids) -> Rows:
    """Orders interactions of the same user and time by their hash."""
    tied = np.zeros(len(rows.users) + 1, bool)
    tied[1:-1] = (rows.users[1:] == rows.users[:-1]) & (
        rows.times[1:] == rows.times[:-1]
    )
    in_run = np.flatnonzero(tied[1:] | tied[:-1])
    run = np.cumsum(~tied[in_run])
    item = rows.items[in_run]
    tie = rules.combine_hashes(users.hashes[rows.users[in_run]], items.hashes[item])
    rows.items[in_run] = item[np.lexsort((item, tie, run))]
    return rows


def count_training(rows: Rows, lengths: np.ndarray, num_items: int) -> np.ndarray:
    """Interactions of each item in training parts."""
    train_ends = rules.split_ends(lengths)[:, 0]
    first = np.cumsum(lengths) - lengths
    in_training = np.arange(len(rows.items)) < np.repeat(first + train_ends, lengths)
    return np.bincount(rows.items[in_training], minlength=num_items)


def write_shards(
    output: Path, rows: Rows, users: Ids, lengths: np.ndarray, dense: np.ndarray
) -> None:
    """Writes the shards, as many at a time as there are cores."""
    stays = lengths > 0
    lengths = lengths[stays]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    user_ids = rules.to_arrow(users.strings.filter(pl.Series(stays)).to_arrow())
    num_shards = rules.num_shards(len(rows.users))
    shard_of = rules.partition_of(users.hashes[stays], num_shards)
    bounds = np.searchsorted(shard_of, np.arange(num_shards + 1))

    def write(shard: int) -> tuple[str, str]:
        name, digest = shard_name(shard, num_shards), hashlib.sha256()
        with (output / name).open("wb") as file:
            edges = [*range(bounds[shard], bounds[shard + 1], _USERS_AT_ONCE)]
            for first, last in itertools.pairwise([*edges, bounds[shard + 1]]):
                records = encode(first, last)
                digest.update(records)
                file.write(records)
        return name, digest.hexdigest()

    def encode(first: int, last: int) -> memoryview:
        begin, end = offsets[first], offsets[last]
        records = encode_examples(
            user_ids.slice(first, last - first),
            offsets[first : last + 1] - begin,
            dense[rows.items[begin:end]],
            rows.times[begin:end] * rules.MICROSECONDS,
            rules.split_ends(lengths[first:last]),
            before=tfrecord.HEADER_BYTES,
            after=tfrecord.FOOTER_BYTES,
        )
        return tfrecord.fill_frames(records.buffer, records.starts, records.lengths)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rules.write_digests(output, dict(pool.map(write, range(num_shards))))


if __name__ == "__main__":
    rules.run(prepare)
