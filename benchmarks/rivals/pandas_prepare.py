"""What a competent user of pandas writes, with TensorFlow's writer.

python benchmarks/rivals/pandas_prepare.py LOG OUTPUT
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import rules
from tf_writer import Sequence, write_sequences


def prepare(log: str, output: Path) -> None:
    """Prepares a log."""
    rows = pd.read_csv(log, dtype={"user": "str", "item": "str", "time": "int64"})
    rows = k_core(rows.drop_duplicates())
    counts = rows["item"].value_counts().rename_axis("item").reset_index()
    counts = counts.sort_values(["count", "item"], ascending=[False, True])
    vocabulary = counts["item"]
    item_ids = pd.Series(np.arange(1, len(vocabulary) + 1), index=vocabulary)
    user_hashes, item_hashes = hashes(rows["user"]), hashes(rows["item"])
    rows = rows.assign(
        time=rows["time"] * rules.MICROSECONDS,
        item_id=rows["item"].map(item_ids),
        user_hash=rows["user"].map(user_hashes),
        tie=rules.combine_hashes(
            rows["user"].map(user_hashes).to_numpy(),
            rows["item"].map(item_hashes).to_numpy(),
        ),
    )
    users = (
        rows.sort_values(["time", "tie", "item"])
        .groupby(["user_hash", "user"])
        .agg({"item_id": list, "time": list})
        .reset_index()
    )
    num_shards = rules.num_shards(len(rows))
    write_sequences(output, sequences(users, num_shards), num_shards)
    rules.write_digests(output)
    rules.write_vocabulary(output, vocabulary.tolist())
    training = users["item_id"].map(
        lambda items: items[:-2] if len(items) >= 3 else items
    )
    train_counts = training.explode().value_counts().reindex(item_ids, fill_value=0)
    rules.write_popularity(output, vocabulary, counts["count"], train_counts)


def k_core(rows: pd.DataFrame) -> pd.DataFrame:
    """Drops rare users and items until there are none."""
    while True:
        enough = np.ones(len(rows), bool)
        for column in ("user", "item"):
            sizes = rows.groupby(column)[column].transform("size")
            enough &= (sizes >= rules.MIN_INTERACTIONS).to_numpy()
        if enough.all():
            return rows
        rows = rows[enough]


def hashes(ids: pd.Series) -> pd.Series:
    """The hash of each distinct id, by id."""
    unique = ids.unique()
    values = rules.hash_strings(rules.to_arrow(pa.array(unique)))
    return pd.Series(values, index=unique)


def sequences(users: pd.DataFrame, num_shards: int) -> Iterator[Sequence]:
    """The users, one by one."""
    shards = rules.partition_of(users["user_hash"].to_numpy(), num_shards).tolist()
    columns = (users["user"], users["item_id"], users["time"], shards)
    for values in zip(*columns, strict=True):
        yield Sequence(*values)


if __name__ == "__main__":
    rules.run(prepare)
