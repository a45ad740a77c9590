"""Fixtures for the tests of the Beam job: logs to read, and outputs read back."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
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
    # The features that are there on request, by name.
    kept: dict[str, list[Any]] = dataclasses.field(default_factory=dict)


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
        compression = "GZIP" if path.endswith(".gz") else ""
        for record in tf.data.TFRecordDataset(path, compression).as_numpy_iterator():
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
                {
                    name: list(value.float_list.value)
                    or [text.decode() for text in value.bytes_list.value]
                    for name, value in feature.items()
                    if name in ("ratings", "event_types") or name.startswith("extra/")
                },
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


@dataclasses.dataclass
class Rows:
    """What the first step of the job reads, without Beam around it."""

    good: list[dict[str, Any]]
    # Offset, reason and text of each.
    rejected: list[tuple[int, str, str]]
    num_parts: int
    num_blocks: int


def _read_rows(*paths: Path | str, block_bytes: int = 1 << 20, **given: Any) -> Rows:
    from adaptiverec.pipeline import prepare
    from adaptiverec.pipeline.input_files import find_files, split_into_ranges
    from adaptiverec.pipeline.interactions import schema_of
    from adaptiverec.pipeline.options import PrepareOptions
    from adaptiverec.pipeline.read_rows import PartReader

    parameters = inspect.signature(prepare).parameters
    options = PrepareOptions.checked(
        **{
            **{name: parameter.default for name, parameter in parameters.items()},
            "input": [str(path) for path in paths],
            "output": "out",
            "user_column": "user",
            "item_column": "item",
            "time_column": "time",
            **given,
        }
    )
    files = find_files(options)
    parts = [part for file in files for part in split_into_ranges(file, block_bytes)]
    # As on a cluster.
    parts = pickle.loads(pickle.dumps(parts))
    reader = PartReader(options, block_bytes)
    rows = Rows([], [], len(parts), 0)
    for part in parts:
        for parsed in reader.read(part):
            assert parsed.batch.schema == schema_of(options)
            parsed.batch.validate(full=True)
            assert not any(column.null_count for column in parsed.batch.columns)
            assert parsed.rows_read == parsed.batch.num_rows + len(parsed.rejects.rows)
            rows.good += parsed.batch.to_pylist()
            rejects = parsed.rejects
            rows.rejected += zip(
                rejects.offsets, rejects.reasons, rejects.rows, strict=True
            )
            rows.num_blocks += 1
    return rows


@pytest.fixture(scope="session")
def read_rows() -> Callable[..., Rows]:
    """Reads files by options of ``prepare``; the columns are user, item and time."""
    return _read_rows
