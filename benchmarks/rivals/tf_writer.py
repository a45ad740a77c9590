"""Sequences to TFRecord files, the way that TensorFlow's own guide has it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from adaptiverec.pipeline.contract import shard_name

__all__ = ["Sequence", "write_sequences"]


class Sequence(NamedTuple):
    """One user: dense item ids, times in microseconds, the shard it belongs to."""

    user_id: str
    item_ids: list[int]
    times: list[int]
    shard: int


def write_sequences(
    output: Path, sequences: Iterable[Sequence], num_shards: int
) -> None:
    """Writes one Example a user, in the order given."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                tf.io.TFRecordWriter(str(output / shard_name(shard, num_shards)))
            )
            for shard in range(num_shards)
        ]
        for sequence in sequences:
            example = _example(sequence)
            writers[sequence.shard].write(example.SerializeToString(deterministic=True))


def _example(sequence: Sequence) -> tf.train.Example:
    length = len(sequence.item_ids)
    held_out = 1 if length >= 3 else 0
    feature = {
        "item_ids": _integers(sequence.item_ids),
        "split": _integers([length - 2 * held_out, length - held_out]),
        "timestamps": _integers(sequence.times),
        "user_id": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[sequence.user_id.encode()])
        ),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def _integers(values: list[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
