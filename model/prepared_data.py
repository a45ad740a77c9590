"""Reading a prepared directory (see :mod:`adaptiverec.pipeline.contract`)."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from adaptiverec.common.errors import ContractError, NotFoundError
from adaptiverec.model.sequences import Sequences
from adaptiverec.model.shards import read_shard
from adaptiverec.pipeline import contract

__all__ = ["PreparedData", "Sequences", "ShardCounts"]

# Enough to parse at once that what a block costs by itself does not count.
_BLOCK_USERS = 4096
# What the blocks are counted for.
_COUNTS = ("num_users", "num_interactions", "num_train_instances")


class ShardCounts(NamedTuple):
    """What was found in the shards of a prepared directory.

    Attributes:
        users_by_instances: How many users have how many training instances; those with
            none are left out.
        validation: Validation targets with something of the same user before them.
        test: Test targets, likewise.
    """

    users_by_instances: dict[int, int]
    validation: int
    test: int

    @property
    def train(self) -> int:
        """Training instances: items with something of the same user before them."""
        return self.windows(1)

    def windows(self, max_length: int) -> int:
        """How many instances have each training target once, see `Instances.covering`."""
        return sum(
            num_users * -(-num_instances // max_length)
            for num_instances, num_users in self.users_by_instances.items()
        )


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

    @property
    def num_train_instances(self) -> int:
        """How many training items have an item of the same user before them."""
        return self.metadata["num_train_instances"]

    @functools.cached_property
    def counts(self) -> ShardCounts:
        """What the shards hold; they are read once for it, whole or not at all.

        Raises:
            ContractError: A shard is damaged, which is named, or they do not hold what
                the metadata says.
        """
        users_by_instances: collections.Counter[int] = collections.Counter()
        totals = np.zeros(2, np.int64)
        for block in self.blocks():
            # The first item of a user has nothing before it.
            second = block.starts[:-1] + 1
            targets = (
                (second, block.train_ends),
                (np.maximum(second, block.train_ends), block.validation_ends),
                (np.maximum(second, block.validation_ends), block.starts[1:]),
            )
            train, *others = [np.maximum(end - first, 0) for first, end in targets]
            users_by_instances.update(train.tolist())
            totals += [lengths.sum() for lengths in others]
        del users_by_instances[0]
        return ShardCounts(dict(users_by_instances), *totals.tolist())

    def sequences(self) -> Sequences:
        """Reads all sequences into memory.

        Raises:
            ContractError: The shards do not hold what the metadata says.
        """
        return Sequences.joined(list(self.blocks()))

    def blocks(self) -> Iterator[Sequences]:
        """Reads the sequences, some users at a time, in the order of the shards.

        Yields:
            Blocks of some thousand users.

        Raises:
            ContractError: A shard is damaged, which is named, or they do not hold what
                the metadata says.
        """
        found = collections.Counter(dict.fromkeys(_COUNTS, 0))
        for shard in range(self.num_shards):
            for block in self.shard_blocks(shard, block_users=_BLOCK_USERS):
                found["num_users"] += block.num_users
                found["num_interactions"] += len(block.items)
                found["num_train_instances"] += block.num_train_instances
                yield block
        expected = {name: self.metadata[name] for name in _COUNTS}
        if found != expected:
            raise ContractError(
                f"The shards of {self.path} must hold what their metadata says, "
                f"{expected}. Received: {dict(found)}"
            )

    @property
    def num_shards(self) -> int:
        """How many files the sequences are in."""
        return len(self.metadata["shards"])

    def shard_blocks(self, shard: int, *, block_users: int) -> Iterator[Sequences]:
        """Reads the sequences of one shard.

        Args:
            shard: Its number, from 0.
            block_users: Users a block; the last one may have fewer.

        Yields:
            The users, in the order of the shard.

        Raises:
            ContractError: It is damaged, or does not hold the users that it must.
        """
        described = self.metadata["shards"][shard]
        yield from read_shard(
            tf.io.gfile.join(self.path, described["file"]),
            compression=self.metadata["compression"],
            num_users=described["num_users"],
            block_users=block_users,
        )


def _read(directory: str, name: str) -> bytes | None:
    path = tf.io.gfile.join(directory, name)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
