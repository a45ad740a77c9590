"""One shard, written part by part, and what can be said of it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import pyarrow.compute as pc

from adaptiverec.pipeline import tfrecord
from adaptiverec.pipeline.example_encoding import encode_examples
from adaptiverec.pipeline.interactions import EVENT, RATING, extra_name
from adaptiverec.pipeline.kept_sequences import KeptSequences
from adaptiverec.pipeline.kept_statistics import Statistics
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.output_files import Places, create_whole
from adaptiverec.pipeline.split import SplitPoints, split_sequences

__all__ = ["ShardSummary", "ShardWriter", "shard_writer"]

# Encoding takes about 60 bytes an interaction, and what is passed through comes on top,
# so sequences are encoded part by part.
_INTERACTIONS_AT_ONCE = 1 << 18
_BYTES_AN_INTERACTION = 64
# zlib's own choice between size and time.
_GZIP_LEVEL = 6
_EXTRA = extra_name("")


@dataclasses.dataclass
class ShardSummary:
    """What was written.

    Attributes:
        file: The shard's name.
        sha256: SHA-256 of the file.
        content_sha256: SHA-256 of what it holds uncompressed.
        num_users: Records.
        num_interactions: Items in all of them.
        num_train_instances: Items in training parts that have something before them.
        num_validation_instances: Validation targets that have something before them.
        num_test_instances: Test targets that have something before them.
        num_users_without_targets: Users that are wholly for training.
        first: The first time, None without a user.
        last: The last time, likewise.
    """

    file: str
    sha256: str = ""
    content_sha256: str = ""
    num_users: int = 0
    num_interactions: int = 0
    num_train_instances: int = 0
    num_validation_instances: int = 0
    num_test_instances: int = 0
    num_users_without_targets: int = 0
    first: int | None = None
    last: int | None = None


class ShardWriter:
    """Encodes sequences into a shard; what was written is in the attributes.

    Args:
        file: What to write to.
        name: The shard's name.
        options: What was asked for.
        points: What a split by time splits by.
        num_items: Size of the vocabulary.

    Attributes:
        summary: What was written; the digests when all is.
        statistics: A description of it.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        options: PrepareOptions,
        points: SplitPoints | None,
        num_items: int,
    ) -> None:
        self.summary = ShardSummary(name)
        self.statistics = Statistics.none(num_items)
        self._file = file
        self._options = options
        self._points = points
        self._content = hashlib.sha256()
        self._stored = self._content
        # 31: with gzip's header, in which zlib leaves time and name empty.
        self._gzip = None
        if options.output_compression == "gzip":
            self._stored = hashlib.sha256()
            self._gzip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)

    def write(self, kept: KeptSequences) -> None:
        """Appends sequences."""
        train_ends, validation_ends = split_sequences(
            self._options.split, kept.offsets, kept.times, self._points
        )
        self._describe(kept, train_ends, validation_ends)
        splits = np.stack([train_ends, validation_ends], axis=1)
        for first, last in _parts(kept):
            self._encode(kept.part(first, last), splits[first:last])

    def _encode(self, kept: KeptSequences, splits: np.ndarray) -> None:
        columns = kept.columns
        records = encode_examples(
            kept.user_ids,
            kept.offsets,
            kept.items,
            kept.times if self._options.time_column is not None else None,
            splits,
            ratings=columns[RATING].to_numpy() if RATING in columns else None,
            event_types=columns.get(EVENT),
            extras={
                name.removeprefix(_EXTRA): values
                for name, values in columns.items()
                if name.startswith(_EXTRA)
            },
            before=tfrecord.HEADER_BYTES,
            after=tfrecord.FOOTER_BYTES,
        )
        data = tfrecord.fill_frames(records.buffer, records.starts, records.lengths)
        self._content.update(data)
        if self._gzip is None:
            self._file.write(data)
        else:
            self._store(self._gzip.compress(data))

    def _store(self, compressed: bytes) -> None:
        self._stored.update(compressed)
        self._file.write(compressed)

    def _describe(
        self, kept: KeptSequences, train_ends: np.ndarray, validation_ends: np.ndarray
    ) -> None:
        if not len(kept):
            return
        times = self._options.time_column is not None
        self.statistics.add(kept, train_ends, times=times)
        lengths = np.diff(kept.offsets)
        # A target at the very start of a sequence has nothing to be predicted from.
        validation = validation_ends - np.maximum(train_ends, 1)
        test = lengths - np.maximum(validation_ends, 1)
        summary = self.summary
        summary.num_users += len(lengths)
        summary.num_interactions += int(lengths.sum())
        summary.num_train_instances += int(np.maximum(train_ends - 1, 0).sum())
        summary.num_validation_instances += int(np.maximum(validation, 0).sum())
        summary.num_test_instances += int(np.maximum(test, 0).sum())
        summary.num_users_without_targets += int((train_ends == lengths).sum())
        first, last = int(kept.times.min()), int(kept.times.max())
        summary.first = first if summary.first is None else min(first, summary.first)
        summary.last = last if summary.last is None else max(last, summary.last)

    def finish(self) -> None:
        """Writes what is still held back, and notes the digests."""
        if self._gzip is not None:
            self._store(self._gzip.flush())
        self.summary.content_sha256 = self._content.hexdigest()
        self.summary.sha256 = self._stored.hexdigest()


@contextmanager
def shard_writer(
    places: Places,
    name: str,
    options: PrepareOptions,
    points: SplitPoints | None,
    num_items: int,
) -> Iterator[ShardWriter]:
    """Opens a shard that is there, and whole, when the block succeeds.

    Args:
        places: Where the run works.
        name: The shard's name.
        options: What was asked for.
        points: What a split by time splits by.
        num_items: Size of the vocabulary.

    Yields:
        The writer.
    """
    with create_whole(places, name) as file:
        writer = ShardWriter(file, name, options, points, num_items)
        yield writer
        writer.finish()


def _parts(kept: KeptSequences) -> list[tuple[int, int]]:
    """Ranges of users with about as much as is encoded at once."""
    if not len(kept):
        return []
    weights = kept.offsets
    for values in kept.columns.values():
        if values.type != "double":
            sizes = pc.binary_length(values).to_numpy()
            before = np.concatenate(([0], np.cumsum(sizes)))[kept.offsets]
            weights = weights + before // _BYTES_AN_INTERACTION
    marks = np.arange(0, int(weights[-1]), _INTERACTIONS_AT_ONCE)
    bounds = np.unique(np.searchsorted(weights, marks, side="left"))
    edges = [*bounds[bounds < len(kept)].tolist(), len(kept)]
    return list(itertools.pairwise(edges))
