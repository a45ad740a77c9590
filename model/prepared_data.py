"""Reading a prepared directory (see :mod:`adaptiverec.pipeline.contract`)."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.common.errors import ContractError, NotFoundError
from adaptiverec.pipeline import contract

__all__ = ["PreparedData", "Sequences"]

_READ_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class Sequences:
    """All users' sequences, one after the other in one flat array.

    They are held once, 4 bytes an interaction: prefixes, views and targets are positions
    in them.

    Attributes:
        items: Dense item ids, int32 `[num_interactions]`.
        starts: Where each user's sequence starts, int64 `[num_users + 1]`; the last
            element is `num_interactions`.
        train_ends: End of each user's training part, as a position in `items`, int64
            `[num_users]`.
        validation_ends: End of each user's validation targets, likewise; what follows
            are test targets.
    """

    items: np.ndarray
    starts: np.ndarray
    train_ends: np.ndarray
    validation_ends: np.ndarray

    @property
    def num_users(self) -> int:
        """The number of users."""
        return len(self.starts) - 1


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """A whole prepared directory, of this schema version.

    Attributes:
        path: The directory, local or on a filesystem that `tf.io.gfile` knows.
        metadata: Its `metadata.json`.
        vocabulary: Raw item ids; element i has the dense id i + 1.
    """

    path: str
    metadata: dict[str, Any]
    vocabulary: list[str]

    @classmethod
    def open(cls, path: str) -> PreparedData:
        """Checks the directory and reads its metadata and vocabulary.

        Args:
            path: The directory.

        Returns:
            The :class:`PreparedData`.

        Raises:
            NotFoundError: There is no such directory.
            ContractError: It is not whole, of another schema version, or altered.
        """
        if not tf.io.gfile.isdir(path):
            raise NotFoundError(
                "The prepared data must be a directory made by `adaptiverec prepare`. "
                f"Received: {path}, which is none"
            )
        metadata = contract.check_whole(
            _read(path, contract.METADATA), _read(path, contract.MARKER), where=path
        )
        text = _read(path, metadata["vocabulary"]["file"]) or b""
        if hashlib.sha256(text).hexdigest() != metadata["vocabulary"]["sha256"]:
            raise ContractError(
                "The vocabulary must be the one that the metadata describes (by its "
                f"SHA-256). Received: another one in {path}"
            )
        return cls(path, metadata, text.decode("utf-8").split("\n")[:-1])

    @property
    def fingerprint(self) -> str:
        """What identifies the vocabulary and the sequences."""
        return self.metadata["fingerprint"]

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.vocabulary)

    def sequences(self) -> Sequences:
        """Reads all sequences into memory.

        Raises:
            ContractError: The shards do not hold what the metadata says.
        """
        shards = [
            tf.io.gfile.join(self.path, shard["file"])
            for shard in self.metadata["shards"]
        ]
        features = {
            contract.ITEM_IDS: tf.io.RaggedFeature(tf.int64),
            contract.SPLIT: tf.io.FixedLenFeature([2], tf.int64),
        }
        compression = "GZIP" if self.metadata["compression"] == "gzip" else ""
        records = (
            tf.data.TFRecordDataset(shards, compression_type=compression)
            .batch(_READ_BATCH)
            .map(lambda batch: tf.io.parse_example(batch, features))
            .prefetch(1)
        )
        items, lengths, splits = [], [], []
        try:
            for record in records:
                ragged = record[contract.ITEM_IDS]
                items.append(ragged.flat_values.numpy().astype(np.int32))
                lengths.append(ragged.row_lengths().numpy())
                splits.append(record[contract.SPLIT].numpy())
        except tf.errors.OpError as error:
            raise ContractError(
                f"The shards of {self.path} must be whole TFRecord files of the schema. "
                f"Received: {error.message}"
            ) from error
        starts = np.concatenate([[0], np.cumsum(_joined(lengths, np.int64))])
        split = starts[:-1, None] + _joined(splits, np.int64).reshape(-1, 2)
        expected = (self.metadata["num_users"], self.metadata["num_interactions"])
        if (len(starts) - 1, int(starts[-1])) != expected:
            raise ContractError(
                f"The shards of {self.path} must hold the {expected[0]} users and "
                f"{expected[1]} interactions of its metadata. Received: "
                f"{len(starts) - 1} users, {starts[-1]} interactions"
            )
        return Sequences(_joined(items, np.int32), starts, split[:, 0], split[:, 1])


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)


def _read(directory: str, name: str) -> bytes | None:
    path = tf.io.gfile.join(directory, name)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
