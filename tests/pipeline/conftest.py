"""Fixtures for the tests of the Beam job: logs to read, and outputs read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A slow example is no failure on a busy machine.
settings.register_profile("pipeline", deadline=None, max_examples=50)
settings.load_profile("pipeline")


@dataclasses.dataclass
class User:
    items: list[str]
    times: list[int]
    train_end: int
    validation_end: int


@dataclasses.dataclass
class Prepared:
    """A prepared directory, read with TensorFlow."""

    metadata: dict[str, Any]
    vocabulary: list[str]
    # User ids of each shard in their order.
    shards: list[list[str]]
    users: dict[str, User]
    rejected: list[dict[str, Any]]
    files: dict[str, bytes]


def _read(directory: Path) -> Prepared:
    import tensorflow as tf

    files = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    metadata = json.loads(files["metadata.json"])
    vocabulary = files["vocabulary.txt"].decode().split("\n")
    assert vocabulary.pop() == ""
    shards, users = [], {}
    for shard in metadata["shards"]:
        ids = []
        path = str(directory / shard["file"])
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            (user_id,) = feature["user_id"].bytes_list.value
            train_end, validation_end = feature["split"].int64_list.value
            assert user_id.decode() not in users
            ids.append(user_id.decode())
            users[ids[-1]] = User(
                [vocabulary[n - 1] for n in feature["item_ids"].int64_list.value],
                list(feature["timestamps"].int64_list.value),
                train_end,
                validation_end,
            )
        shards.append(ids)
    rejected = [
        json.loads(line)
        for name, data in files.items()
        if name.startswith("rejected/")
        for line in data.decode().splitlines()
    ]
    return Prepared(metadata, vocabulary, shards, users, rejected, files)


@pytest.fixture
def read_prepared() -> Callable[[Path], Prepared]:
    return _read


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """Real logs beside the repository; they are not part of it."""
    path = Path(__file__).parents[2].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the real logs are not there: {path}")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Writes a file of the test's and gives its path."""

    def write(data: bytes | str, name: str = "log.csv") -> str:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return write
