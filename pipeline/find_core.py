"""The steps that find out what stays: the graph of users and items, and its core."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from adaptiverec.pipeline.contract import VOCABULARY
from adaptiverec.pipeline.core import Core
from adaptiverec.pipeline.item_counts import CountedItems
from adaptiverec.pipeline.item_table import ItemTable
from adaptiverec.pipeline.job import Job
from adaptiverec.pipeline.k_core import InteractionGraph
from adaptiverec.pipeline.memory import give_back
from adaptiverec.pipeline.output_files import create_whole
from adaptiverec.pipeline.sequences import Sequences, one_row, rows_of
from adaptiverec.pipeline.shuffle import Handle
from adaptiverec.pipeline.sizes import num_shards_for
from adaptiverec.pipeline.vocabulary import (
    Vocabulary,
    grow,
    split_lines,
    vocabulary_lines,
)

__all__ = [
    "BASE_VOCABULARY",
    "INDEXED",
    "VOCABULARY_FACTS",
    "FindCore",
    "IndexItems",
    "IndexedPartition",
    "Partition",
    "VocabularyFacts",
]

# Where the driver leaves the base vocabulary, among the files that are not published.
BASE_VOCABULARY = "base-vocabulary.txt"
# Names of side outputs.
INDEXED = "indexed"
VOCABULARY_FACTS = "vocabulary"


class Partition(NamedTuple):
    """The sequences of one partition's users, put aside."""

    number: int
    handle: Handle


class IndexedPartition(NamedTuple):
    """The same, and where its items are in the list of counted items.

    Attributes:
        number: The partition's.
        handle: Its sequences.
        items: The position of each of its items, -1 for none.
    """

    number: int
    handle: Handle
    items: Handle


class VocabularyFacts(NamedTuple):
    """What is said of the vocabulary.

    Attributes:
        sha256: SHA-256 of its file.
        interactions: Kept interactions by dense id, from 1; int64 of shape [num_items].
        carried: Items of the base, whose dense ids are kept.
        new: Items that the base lacks.
        absent: Items of the base that no kept interaction has.
    """

    sha256: str
    interactions: np.ndarray
    carried: int
    new: int
    absent: int


class IndexItems(beam.DoFn):
    """A partition to its part of the user-item graph, in integers.

    Interactions with items that are too rare anyway are left out already. The side
    output is the partition together with the positions of its items.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, partition: Partition, table: ItemTable) -> Iterator[Any]:
        """Yields the part of the graph under the one key there is."""
        shuffle = self._job.shuffle
        sequences = Sequences.from_batch(shuffle.get(partition.handle))
        positions = table.positions_of(sequences.item_ids)
        items = positions[sequences.items]
        known = items >= 0
        passed = np.concatenate(([0], np.cumsum(known)))[sequences.offsets]
        graph = one_row(
            {
                "degrees": pa.array(np.diff(passed).astype(np.int32)),
                "items": pa.array(items[known]),
            }
        )
        (handle,) = shuffle.put([graph], "graph")
        yield None, Partition(partition.number, handle)
        (handle,) = shuffle.put([one_row({"items": pa.array(positions)})], "items")
        yield TaggedOutput(
            INDEXED, IndexedPartition(partition.number, partition.handle, handle)
        )

    def finish_bundle(self) -> None:
        """Leaves nothing behind for the steps to come."""
        give_back()


class FindCore(beam.DoFn):
    """The whole graph to what stays of it; writes the vocabulary."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, element: tuple[None, Iterable[Partition]], counted: CountedItems
    ) -> Iterator[Any]:
        """Yields what stays, and what is said of the vocabulary as a side output."""
        job, options = self._job, self._job.options
        numbers, sizes = [], []
        with InteractionGraph(counted.counts, job.shuffle.directory) as graph:
            # One part after the other, as they come: all together may be too much.
            for number, handle in element[1]:
                part = rows_of(job.shuffle.get(handle))
                degrees = part["degrees"].to_numpy()
                graph.add(degrees, part["items"].to_numpy())
                numbers.append(number)
                sizes.append(len(degrees))
            user_stays, item_counts = graph.core(
                options.min_user_interactions, options.min_item_interactions
            )
        vocabulary = grow(self._base(), counted.item_ids, item_counts)
        num_items = len(vocabulary.item_ids)
        packed = {
            number: np.packbits(stays)
            for number, stays in zip(
                numbers, np.split(user_stays, np.cumsum(sizes)[:-1]), strict=True
            )
        }
        shards = options.num_shards or num_shards_for(int(item_counts.sum()))
        yield Core(packed, vocabulary.dense_ids, num_items, shards)
        interactions = np.zeros(num_items + 1, np.int64)
        interactions[vocabulary.dense_ids] = item_counts
        yield TaggedOutput(
            VOCABULARY_FACTS,
            VocabularyFacts(
                self._write(vocabulary),
                interactions[1:],
                vocabulary.carried,
                vocabulary.new,
                vocabulary.absent,
            ),
        )

    def _base(self) -> pa.Array:
        if self._job.options.base_vocabulary is None:
            return pa.array([], pa.string())
        path = FileSystems.join(self._job.places.work, BASE_VOCABULARY)
        with FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            return split_lines(file.read())

    def _write(self, vocabulary: Vocabulary) -> str:
        """Writes the vocabulary's file; returns its SHA-256."""
        digest = hashlib.sha256()
        with create_whole(self._job.places, VOCABULARY) as file:
            for part in vocabulary_lines(vocabulary.item_ids):
                digest.update(part)
                file.write(part)
        return digest.hexdigest()
