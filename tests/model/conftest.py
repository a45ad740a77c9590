"""Prepared directories of a few users that a test says, as `prepare` lays them out."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from adaptiverec.common.files import sha256_of_bytes
from adaptiverec.pipeline import contract

User = tuple[list[int], int, int]


def _sequences_of(users: list[User]):
    """Of (items, train_end, validation_end) for each user."""
    from adaptiverec.model.sequences import Sequences

    starts = np.cumsum([0, *(len(items) for items, _, _ in users)])
    return Sequences(
        np.array([item for items, _, _ in users for item in items], np.int32),
        starts,
        starts[:-1] + np.array([end for _, end, _ in users], np.int64),
        starts[:-1] + np.array([end for _, _, end in users], np.int64),
    )


def _write_prepared(
    path: Path,
    users: list[User],
    *,
    num_items: int = 100,
    num_shards: int = 1,
    compression: str = "none",
):
    """Writes and opens a directory whose shards have the users in their order."""
    import tensorflow as tf

    from adaptiverec.model.prepared_data import PreparedData

    path.mkdir(parents=True)
    vocabulary = "".join(f"item-{n}\n" for n in range(num_items)).encode()
    (path / contract.VOCABULARY).write_bytes(vocabulary)
    shards = []
    for number, part in enumerate(np.array_split(np.arange(len(users)), num_shards)):
        name = contract.shard_name(number, num_shards, compression)
        options = "GZIP" if compression == "gzip" else ""
        with tf.io.TFRecordWriter(str(path / name), options) as writer:
            for items, *split in (users[index] for index in part):
                example = tf.train.Example()
                feature = example.features.feature
                feature[contract.ITEM_IDS].int64_list.value.extend(items)
                feature[contract.SPLIT].int64_list.value.extend(split)
                writer.write(example.SerializeToString())
        shards.append({"file": name, "num_users": len(part)})
    sequences = _sequences_of(users)
    ends = (sequences.train_ends, sequences.validation_ends, sequences.starts[1:])
    firsts = (sequences.starts[:-1], *ends)
    counts = [
        int(np.maximum(end - np.maximum(first, sequences.starts[:-1] + 1), 0).sum())
        for first, end in zip(firsts, ends, strict=False)
    ]
    metadata = {
        "schema_version": contract.SCHEMA_VERSION,
        "num_users": len(users),
        "num_items": num_items,
        "num_interactions": len(sequences.items),
        "num_train_instances": counts[0],
        "num_validation_instances": counts[1],
        "num_test_instances": counts[2],
        "rejected": 0,
        "vocabulary": {
            "file": contract.VOCABULARY,
            "sha256": sha256_of_bytes(vocabulary),
        },
        "compression": compression,
        "shards": shards,
        "fingerprint": "made up",
    }
    (path / contract.METADATA).write_text(json.dumps(metadata))
    marker = sha256_of_bytes((path / contract.METADATA).read_bytes())
    (path / contract.MARKER).write_text(marker)
    return PreparedData.open(str(path))


def _random_users(num_users: int, num_items: int, seed: int = 0) -> list[User]:
    """Users with 1 to 12 items; some are wholly for training, some hardly."""
    generator = np.random.default_rng(seed)
    users = []
    for _ in range(num_users):
        length = int(generator.integers(1, 13))
        train_end, validation_end = np.sort(generator.integers(0, length + 1, 2))
        items = generator.integers(1, num_items + 1, length)
        users.append((items.tolist(), int(train_end), int(validation_end)))
    return users


@contextlib.contextmanager
def _dtype_policy(name: str):
    """While it lasts, layers are made under this policy."""
    import keras

    default = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(default)


def _differences_of_pairs(loss, similarities: np.ndarray, step: float = 1e-5):
    """How a loss of symmetric similarities changes with each pair's, by its value nearby."""
    slopes = np.zeros_like(similarities)
    for i, j in np.ndindex(similarities.shape):
        if i == j:
            continue
        shift = np.zeros_like(similarities)
        shift[i, j] = shift[j, i] = step
        above, below = loss(similarities + shift), loss(similarities - shift)
        slopes[i, j] = (above - below) / (2 * step)
    return slopes


@pytest.fixture(scope="session")
def differences_of_pairs():
    """The function above."""
    return _differences_of_pairs


@pytest.fixture(scope="session")
def dtype_policy():
    """The function above."""
    return _dtype_policy


@pytest.fixture(scope="session")
def sequences_of():
    """The function above."""
    return _sequences_of


@pytest.fixture(scope="session")
def write_prepared():
    """The function above."""
    return _write_prepared


@pytest.fixture(scope="session")
def random_users():
    """The function above."""
    return _random_users
