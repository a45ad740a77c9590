"""Users of prepared files, streamed: ids and histories in batches that fit a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import ContractError
from adaptiverec.pipeline.contract import ITEM_IDS, SPLIT, USER_ID
from adaptiverec.serving.batch_frames import read_frame
from adaptiverec.serving.batch_plan import Part

__all__ = ["Users", "read_users"]

# The most cells of a padded batch, so that one user with a very long history does not
# widen the rows of hundreds.
_MAX_CELLS = 1 << 18
_FEATURES = {
    USER_ID: tf.io.FixedLenFeature([], tf.string),
    ITEM_IDS: tf.io.RaggedFeature(tf.int64),
    SPLIT: tf.io.FixedLenFeature([2], tf.int64),
}


class Users(NamedTuple):
    """A batch of users.

    Attributes:
        user_ids: Raw user ids, bytes, `[batch]`.
        histories: Dense item ids, int64 `[batch, longest, at least 1]`; 0 is padding, at
            the end of rows.
    """

    user_ids: np.ndarray
    histories: np.ndarray


def read_users(
    directory: str, parts: Sequence[Part], *, history: str, batch_size: int
) -> Iterator[Users]:
    """Reads users of prepared files.

    Args:
        directory: The prepared directory.
        parts: Which records of which files.
        history: Which items are the history; see
            :func:`adaptiverec.serving.batch_recommend`.
        batch_size: The most users of a batch.

    Yields:
        The users, in order.

    Raises:
        ContractError: A file is damaged, or does not have the records that it must have.
    """
    for part in parts:
        path = FileSystems.join(directory, part.file)
        records: list[bytes] = []
        for record in _records(path, part):
            records.append(record)
            if len(records) == batch_size:
                yield from _parsed(path, records, history)
                records = []
        if records:
            yield from _parsed(path, records, history)


def _records(path: str, part: Part) -> Iterator[bytes]:
    # The name tells whether it is compressed.
    with FileSystems.open(path) as file:
        for index in range(part.stop):
            wanted = index >= part.start
            record = read_frame(file, check=wanted)
            if record is None:
                raise ContractError(
                    "The sequences must be whole TFRecord files, as `adaptiverec prepare` "
                    f"wrote them. Received: {path}, which is damaged at record {index}"
                )
            if wanted:
                yield record
        if part.stop == part.num_records and file.read(1):
            raise ContractError(
                f"The file must have {part.num_records} records, as the metadata says. "
                f"Received: {path}, with more"
            )


def _parsed(path: str, records: list[bytes], history: str) -> Iterator[Users]:
    try:
        parsed = tf.io.parse_example(tf.constant(records, tf.string), _FEATURES)
    except tf.errors.OpError as error:
        raise ContractError(
            f"The records of {path} must have the features of prepared data. Received: "
            f"{error.message}"
        ) from error
    user_ids = parsed[USER_ID].numpy()
    items = parsed[ITEM_IDS]
    flat, starts = items.flat_values.numpy(), items.row_starts().numpy()
    lengths = items.row_lengths().numpy()
    if history != "all":
        lengths = parsed[SPLIT].numpy()[:, 0 if history == "before_validation" else 1]
    for rows in _groups(lengths):
        width = max(1, int(lengths[rows].max()))
        columns = np.arange(width)
        inside = columns < lengths[rows, np.newaxis]
        matrix = np.zeros(inside.shape, np.int64)
        matrix[inside] = flat[(starts[rows, np.newaxis] + columns)[inside]]
        yield Users(user_ids[rows], matrix)


def _groups(lengths: np.ndarray) -> Iterator[slice]:
    """Cuts rows so that padded ones take bounded memory."""
    start, longest = 0, 1
    for row, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if row > start and (row + 1 - start) * longest > _MAX_CELLS:
            yield slice(start, row)
            start, longest = row, max(length, 1)
    yield slice(start, len(lengths))
