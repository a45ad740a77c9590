"""Histories that a load test asks with: real ones, drawn ones, or the model's own.

Nothing here needs TensorFlow or NumPy.
"""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from adaptiverec.common.errors import (
    ContractError,
    InvalidValueError,
    NotFoundError,
    StageError,
)
from adaptiverec.pipeline import contract
from adaptiverec.serving.client import RecommenderClient
from adaptiverec.serving.example_pb2 import Example

__all__ = ["drawn_histories", "prepared_histories", "walked_histories"]

# So many rounds of recommendations make a history.
_ROUNDS = 4


def prepared_histories(directory: Path, count: int, length: int) -> list[list[str]]:
    """The newest items of users in prepared data.

    The order of records is that of a hash of users, so the first ones are any ones.

    Args:
        directory: A directory that `adaptiverec prepare` wrote.
        count: How many histories at most.
        length: How many items each has at most.

    Raises:
        NotFoundError: There is no such directory.
        ContractError: It is not whole, or not readable.
    """
    if not directory.is_dir():
        raise NotFoundError(
            "data must be a directory made by `adaptiverec prepare`. Received: "
            f"{directory}, which is none"
        )
    metadata = contract.check_whole(
        _bytes_of(directory / contract.METADATA),
        _bytes_of(directory / contract.MARKER),
        where=str(directory),
    )
    vocabulary = _lines(directory / contract.VOCABULARY)
    histories: list[list[str]] = []
    shards = sorted(directory.glob("sequences-*.tfrecord*"))
    try:
        for shard in shards:
            for record in _records(shard, compressed=metadata["compression"] == "gzip"):
                if len(histories) == count:
                    return histories
                example = Example.FromString(record)
                ids = example.features.feature[contract.ITEM_IDS].int64_list.value
                histories.append([vocabulary[number - 1] for number in ids[-length:]])
    except (OSError, EOFError, IndexError, DecodeError, struct.error) as error:
        raise ContractError(
            f"Prepared data must be as `adaptiverec prepare` wrote it. Received: "
            f"{directory} ({error})"
        ) from error
    if not histories:
        raise ContractError(
            f"data must hold at least one sequence. Received: {directory}"
        )
    return histories


def drawn_histories(
    vocabulary: Path, count: int, length: int, seed: int
) -> list[list[str]]:
    """Items drawn from a vocabulary, a popular one as often as its rank says.

    Line n is drawn about 1/n as often as the first, as popularity often falls.

    Args:
        vocabulary: A file with an item id a line, most popular first, such as the
            `vocabulary.txt` of prepared data or of a SavedModel's assets.
        count: How many histories.
        length: How many items each has.
        seed: Of the random numbers.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It has no line.
    """
    if not vocabulary.is_file():
        raise NotFoundError(
            f"vocabulary must be a file with an item id a line. Received: {vocabulary}, "
            "which is none"
        )
    items = _lines(vocabulary)
    if not items:
        raise InvalidValueError(
            f"vocabulary must have at least one line. Received: {vocabulary}"
        )
    generator = random.Random(seed)
    return [
        [items[int((len(items) + 1) ** generator.random()) - 1] for _ in range(length)]
        for _ in range(count)
    ]


def walked_histories(
    client: RecommenderClient, count: int, length: int, seed: int
) -> list[list[str]]:
    """Histories of users who do as the model says, from a popular item on.

    Args:
        client: Of the model.
        count: How many histories.
        length: How many items each has; fewer where the catalogue is smaller.
        seed: Of the random numbers.

    Raises:
        ServerError: A call failed.
        StageError: It recommends nothing.
    """
    generator = random.Random(seed)
    step = -(-length // _ROUNDS)
    popular = client.recommend([], k=max(100, step)).items
    if not popular:
        raise StageError(
            "The model must recommend something where there is no history; if it does "
            "not, give data or a vocabulary. Received: no items"
        )
    histories = [[generator.choice(popular)] for _ in range(count)]
    while len(histories[0]) < length:
        answers = client.recommend_many(histories, k=max(20, 2 * step))
        for history, answer in zip(histories, answers, strict=True):
            more = min(step, length - len(history), len(answer.items))
            history.extend(generator.sample(answer.items, more))
        if not answers[0].items:
            break
    return histories


def _records(path: Path, *, compressed: bool) -> Iterator[bytes]:
    """The records of a TFRecord file: length, checksum, bytes, checksum."""
    with gzip.open(path) if compressed else path.open("rb") as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            record = file.read(length + 4)
            if len(record) != length + 4:
                raise EOFError(f"{path.name} is cut off")
            yield record[:length]


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _lines(path: Path) -> list[str]:
    # Not splitlines(): an id may hold what Unicode takes for the end of a line.
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise InvalidValueError(
            f"A vocabulary must be UTF-8. Received: {path} ({error})"
        ) from error
    return lines if lines[-1] else lines[:-1]
