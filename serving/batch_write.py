"""A shard of recommendations, written batch by batch as Parquet or TFRecord."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from adaptiverec.serving.batch_contract import (
    FALLBACK,
    ITEMS,
    SCORES,
    UNKNOWN_ITEMS,
    USER_ID,
)
from adaptiverec.serving.batch_frames import framed

__all__ = ["Answers", "HashedFile", "shard_writer"]

_SCHEMA = pa.schema(
    [
        (USER_ID, pa.string()),
        (ITEMS, pa.list_(pa.string())),
        (SCORES, pa.list_(pa.float32())),
        (UNKNOWN_ITEMS, pa.int32()),
        (FALLBACK, pa.bool_()),
    ]
)
# Rows that are held until they are written: what readers skip or read at once.
_ROWS_PER_GROUP = 16_384


class Answers(NamedTuple):
    """What the model says of a batch of users.

    Attributes:
        user_ids: Bytes `[batch]`.
        items: Bytes `[batch, width]`, "" where a row has fewer, at its end.
        scores: Float32 `[batch, width]`.
        unknown_items: Int32 `[batch]`.
        fallback: Bool `[batch]`.
    """

    user_ids: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    unknown_items: np.ndarray
    fallback: np.ndarray


class HashedFile(io.RawIOBase):
    """A file to write into that knows the SHA-256 and the size of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Writes all of it."""
        view = memoryview(data)
        self._file.write(view)
        self._digest.update(view)
        self.num_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """How many bytes were written."""
        return self.num_bytes

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._digest.hexdigest()


@contextmanager
def shard_writer(
    file: HashedFile, file_format: str
) -> Iterator[Callable[[Answers], None]]:
    """Writes a file of a format of :mod:`adaptiverec.serving.batch_contract`.

    Args:
        file: Where to.
        file_format: `parquet` or `tfrecord`.

    Yields:
        What writes a batch.
    """
    if file_format == "tfrecord":
        yield lambda answers: _write_examples(file, answers)
        return
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, _SCHEMA))
                waiting.clear()

        def write(answers: Answers) -> None:
            waiting.append(_record_batch(answers))
            if sum(batch.num_rows for batch in waiting) >= _ROWS_PER_GROUP:
                flush()

        yield write
        flush()


def _record_batch(answers: Answers) -> pa.RecordBatch:
    given = answers.items != b""
    offsets = pa.array(np.concatenate([[0], np.cumsum(given.sum(axis=1))]), pa.int32())
    items = pa.array(answers.items[given].tolist(), pa.binary()).cast(pa.string())
    scores = pa.array(answers.scores[given], pa.float32())
    return pa.RecordBatch.from_arrays(
        [
            pa.array(answers.user_ids.tolist(), pa.binary()).cast(pa.string()),
            pa.ListArray.from_arrays(offsets, items),
            pa.ListArray.from_arrays(offsets, scores),
            pa.array(answers.unknown_items, pa.int32()),
            pa.array(answers.fallback, pa.bool_()),
        ],
        schema=_SCHEMA,
    )


def _write_examples(file: HashedFile, answers: Answers) -> None:
    for user_id, items, scores, unknown, fallback in zip(*answers, strict=True):
        given = items != b""
        feature = {
            USER_ID: _bytes([user_id]),
            ITEMS: _bytes(items[given].tolist()),
            SCORES: tf.train.Feature(float_list={"value": scores[given].tolist()}),
            UNKNOWN_ITEMS: _integer(unknown),
            FALLBACK: _integer(fallback),
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        file.write(framed(example.SerializeToString(deterministic=True)))


def _bytes(values: list[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list={"value": values})


def _integer(value: Any) -> tf.train.Feature:
    return tf.train.Feature(int64_list={"value": [int(value)]})
