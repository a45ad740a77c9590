"""What a competent user of polars writes: a few expressions, and TensorFlow's writer.

python benchmarks/rivals/polars_usual.py LOG OUTPUT
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import rules
from tf_writer import Sequence, write_sequences

SCHEMA = {"user": pl.String, "item": pl.String, "time": pl.Int64}


def prepare(log: str, output: Path) -> None:
    """Prepares a log."""
    rows = k_core(pl.scan_csv(log, schema=SCHEMA).unique().collect())
    vocabulary = (
        rows.group_by("item")
        .len()
        .sort(["len", "item"], descending=[True, False])
        .with_row_index("item_id", offset=1)
    )
    rows = (
        rows.join(vocabulary.select("item", "item_id"), on="item")
        .join(hashes(rows["user"], "user_hash"), left_on="user", right_on="id")
        .join(hashes(rows["item"], "item_hash"), left_on="item", right_on="id")
    )
    tie = rules.combine_hashes(
        rows["user_hash"].to_numpy(writable=True), rows["item_hash"].to_numpy()
    )
    users = (
        rows.with_columns(pl.Series("tie", tie), pl.col("time") * rules.MICROSECONDS)
        .sort("time", "tie", "item")
        .group_by("user", "user_hash")
        .agg("item_id", "time")
        .sort("user_hash", "user")
    )
    num_shards = rules.num_shards(rows.height)
    write_sequences(output, sequences(users, num_shards), num_shards)
    rules.write_digests(output)
    rules.write_vocabulary(output, vocabulary["item"].to_list())
    length = pl.col("item_id").list.len()
    training = pl.col("item_id").list.head(
        pl.when(length < 3).then(length).otherwise(length - 2)
    )
    popularity = vocabulary.join(
        users.select(training).explode("item_id").group_by("item_id").len("train"),
        on="item_id",
        how="left",
        maintain_order="left",
    ).fill_null(0)
    rules.write_popularity(output, *popularity.select("item", "len", "train"))


def k_core(rows: pl.DataFrame) -> pl.DataFrame:
    """Drops rare users and items until there are none."""
    enough = [
        pl.len().over(column) >= rules.MIN_INTERACTIONS for column in ("user", "item")
    ]
    while True:
        fewer = rows.filter(*enough)
        if fewer.height == rows.height:
            return rows
        rows = fewer


def hashes(ids: pl.Series, name: str) -> pl.DataFrame:
    """The hash of each distinct id."""
    unique = ids.unique()
    return pl.DataFrame(
        {"id": unique, name: rules.hash_strings(rules.to_arrow(unique.to_arrow()))}
    )


def sequences(users: pl.DataFrame, num_shards: int) -> Iterator[Sequence]:
    """The users, one by one."""
    shards = rules.partition_of(users["user_hash"].to_numpy(), num_shards).tolist()
    columns = users.select("user", "item_id", "time").iter_rows()
    for (user, item_ids, times), shard in zip(columns, shards, strict=True):
        yield Sequence(user, item_ids, times, shard)


if __name__ == "__main__":
    rules.run(prepare)
