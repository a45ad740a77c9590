"""The kept sequences of one partition to one shard, and what can be said of them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline import tfrecord
from adaptiverec.pipeline.example_encoding import encode_examples
from adaptiverec.pipeline.output_files import Places, create_whole
from adaptiverec.pipeline.sequences import Sequences
from adaptiverec.pipeline.split import SplitPoints, split_sequences

__all__ = ["KeptSequences", "ShardSummary", "keep", "write_shard"]

# Encoding takes about 60 bytes an interaction, so a shard is encoded part by part.
_INTERACTIONS_AT_ONCE = 1 << 18


@dataclasses.dataclass(frozen=True)
class KeptSequences:
    """What is left of a partition, with dense item ids.

    Attributes:
        user_ids: String array [num_users], ascending by UTF-8 bytes.
        offsets: int64 [num_users + 1].
        items: int32 [n], dense ids from 1.
        times: int64 [n].
    """

    user_ids: pa.Array
    offsets: np.ndarray
    items: np.ndarray
    times: np.ndarray


@dataclasses.dataclass(frozen=True)
class ShardSummary:
    """What was written; ``first`` to ``max_length`` are None where that is nothing."""

    file: str
    sha256: str
    num_users: int
    num_interactions: int
    num_train_instances: int
    num_validation_instances: int
    num_test_instances: int
    num_users_without_targets: int
    first: int | None
    last: int | None
    min_length: int | None
    max_length: int | None


def keep(
    sequences: Sequences, user_stays: np.ndarray, vocabulary: pa.Array
) -> KeptSequences:
    """Drops the users and items that do not stay.

    Args:
        sequences: The sequences of U users.
        user_stays: bool of shape [U].
        vocabulary: String array [num_items] of the items that stay; item n of it gets
            the dense id n + 1.
    """
    positions = pc.index_in(sequences.item_ids, value_set=vocabulary)
    dense = positions.fill_null(-1).to_numpy() + 1
    items = dense[sequences.items]
    lengths = np.diff(sequences.offsets)
    kept = np.repeat(user_stays, lengths) & (items > 0)
    passed = np.concatenate(([0], np.cumsum(kept)))[sequences.offsets]
    new_lengths = np.diff(passed)[user_stays]
    return KeptSequences(
        sequences.user_ids.filter(pa.array(user_stays)),
        np.concatenate(([0], np.cumsum(new_lengths))),
        items[kept],
        sequences.times[kept],
    )


def write_shard(
    places: Places,
    name: str,
    kept: KeptSequences,
    split_method: str,
    points: SplitPoints | None,
) -> ShardSummary:
    """Writes a shard.

    Args:
        places: Where the run works.
        name: The file's name.
        kept: What to write; may be nothing, which makes an empty file.
        split_method: ``leave-one-out``, ``time`` or ``none``.
        points: What ``time`` splits by.

    Returns:
        What was written.
    """
    train_ends, validation_ends = split_sequences(
        split_method, kept.offsets, kept.times, points
    )
    splits = np.stack([train_ends, validation_ends], axis=1)
    digest = hashlib.sha256()
    with create_whole(places, name) as file:
        for first, last in _parts(kept.offsets):
            begin, end = kept.offsets[first], kept.offsets[last]
            records = encode_examples(
                kept.user_ids.slice(first, last - first),
                kept.offsets[first : last + 1] - begin,
                kept.items[begin:end],
                kept.times[begin:end],
                splits[first:last],
                before=tfrecord.HEADER_BYTES,
                after=tfrecord.FOOTER_BYTES,
            )
            data = tfrecord.fill_frames(records.buffer, records.starts, records.lengths)
            digest.update(data)
            file.write(data)
    lengths = np.diff(kept.offsets)
    some = len(lengths) > 0
    return ShardSummary(
        file=name,
        sha256=digest.hexdigest(),
        num_users=len(lengths),
        num_interactions=int(lengths.sum()),
        num_train_instances=int(np.maximum(train_ends - 1, 0).sum()),
        # A target at the very start of a sequence has nothing to be predicted from.
        num_validation_instances=int(
            np.maximum(validation_ends - np.maximum(train_ends, 1), 0).sum()
        ),
        num_test_instances=int(
            np.maximum(lengths - np.maximum(validation_ends, 1), 0).sum()
        ),
        num_users_without_targets=int((train_ends == lengths).sum()),
        first=int(kept.times.min()) if some else None,
        last=int(kept.times.max()) if some else None,
        min_length=int(lengths.min()) if some else None,
        max_length=int(lengths.max()) if some else None,
    )


def _parts(offsets: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of users with about as many interactions as are encoded at once."""
    num_users = len(offsets) - 1
    marks = np.arange(0, int(offsets[-1]), _INTERACTIONS_AT_ONCE)
    bounds = np.unique(np.searchsorted(offsets, marks, side="left"))
    edges = [*bounds[bounds < num_users].tolist(), num_users]
    return list(itertools.pairwise(edges))
