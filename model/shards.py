"""Reading the shards of a prepared directory, some users at a time."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow as tf

from adaptiverec.common.errors import ContractError
from adaptiverec.model.sequences import Sequences
from adaptiverec.pipeline import contract

__all__ = ["interleaved", "read_shard"]

Element = TypeVar("Element")

_FEATURES = {
    contract.ITEM_IDS: tf.io.RaggedFeature(tf.int64),
    contract.SPLIT: tf.io.FixedLenFeature([2], tf.int64),
}


def read_shard(
    path: str, *, compression: str, num_users: int, block_users: int
) -> Iterator[Sequences]:
    """Reads a shard.

    Args:
        path: The file, local or on a filesystem that `tf.io.gfile` knows.
        compression: `"none"` or `"gzip"`.
        num_users: How many users the shard must hold.
        block_users: Users a block; the last one may have fewer.

    Yields:
        The users, in the order of the shard.

    Raises:
        ContractError: It is damaged, or does not hold so many users.
    """
    found = 0
    try:
        records = (
            tf.data.TFRecordDataset(
                path, compression_type="GZIP" if compression == "gzip" else ""
            )
            .batch(block_users)
            # Reads and inflates while the block before is worked on.
            .prefetch(1)
        )
        for batch in records:
            block = _parsed(batch)
            found += block.num_users
            yield block
    except tf.errors.OpError as error:
        raise ContractError(
            "The shards must be whole TFRecord files of the schema. Received: "
            f"{path}, damaged after {found} users ({error.message})"
        ) from error
    if found != num_users:
        raise ContractError(
            f"The shard must hold the {num_users} users that its metadata says. Received: "
            f"{path}, which holds {found}"
        )


def interleaved(sources: Iterable[Iterator[Element]], width: int) -> Iterator[Element]:
    """Takes one element of each of some iterators in turn.

    Args:
        sources: The iterators; each is only asked for when one before it has ended.
        width: Of how many at a time.

    Yields:
        All elements of all of them.
    """
    waiting = iter(sources)
    turns: collections.deque[Iterator[Element]] = collections.deque()
    while True:
        while len(turns) < width and (source := next(waiting, None)) is not None:
            turns.append(source)
        if not turns:
            return
        source = turns.popleft()
        try:
            element = next(source)
        except StopIteration:
            continue
        yield element
        turns.append(source)


def _parsed(records: tf.Tensor) -> Sequences:
    # Not by `map`, which would be traced again for each shard.
    with tf.device("/CPU:0"):
        parsed = tf.io.parse_example(records, _FEATURES)
    ragged = parsed[contract.ITEM_IDS]
    starts = ragged.row_splits.numpy().astype(np.int64)
    split = starts[:-1, np.newaxis] + parsed[contract.SPLIT].numpy()
    items = ragged.flat_values.numpy().astype(np.int32)
    return Sequences(items, starts, split[:, 0], split[:, 1])
