"""Batches made of blocks of users in NumPy, for :mod:`~adaptiverec.model.streaming`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adaptiverec.model.instances import Instances
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.sequences import Sequences, SequenceSource, windows
from adaptiverec.model.shards import interleaved
from adaptiverec.model.shuffle_buffer import LastPrefixes, Prefixes, ShuffleBuffer

__all__ = ["Batch", "evaluation_batches", "training_batches"]

# Shards that are read at a time, and users that are taken of one in its turn. More of the
# first and fewer of the second mix better; opening and parsing them costs more.
_OPEN_SHARDS = 16
_BLOCK_USERS = 256
# This part of a full buffer is given away before it is filled again: large enough that
# sorting the buffer by target is cheap, small enough that filling it takes a moment.
_DRAWN_PART = 8

Batch = tuple[dict[str, np.ndarray], np.ndarray]


def training_batches(
    prepared: PreparedData,
    *,
    max_length: int,
    batch_size: int,
    all_positions: bool,
    same_target: bool,
    capacity: int,
    generator: np.random.Generator,
) -> Iterator[Batch]:
    """The batches of one epoch.

    Args:
        prepared: The prepared directory.
        max_length: The last so many items of a history are its input.
        batch_size: Instances a batch.
        all_positions: Whether instances have a target at each position.
        same_target: Whether partners are wanted.
        capacity: Instances that are held to be shuffled, at least a batch.
        generator: Of all order and draws.

    Yields:
        As :func:`~.streaming.streaming_training_dataset`.
    """
    last = LastPrefixes(prepared.num_items, max_length) if same_target else None
    buffer = ShuffleBuffer(capacity, max_length, generator)
    # Whole batches, so that only the last one is smaller.
    several = max(capacity // _DRAWN_PART // batch_size, 1) * batch_size

    def draw(count: int) -> Iterator[Batch]:
        for drawn in buffer.draw(count, batch_size, partners=same_target):
            instances = drawn.instances
            inputs = {"item_ids": instances.histories}
            if last is not None:
                inputs["same_target_item_ids"] = last.partners(drawn).histories
                last.remember(instances)
            yield inputs, instances.following if all_positions else instances.targets

    for block in _shuffled_blocks(prepared, generator):
        instances = Instances.of(block, "train")
        rows = np.arange(len(instances))
        if all_positions:
            covering = instances.covering(max_length)
            if last is not None:
                between = np.delete(rows, covering)
                last.remember(_prefixes(block, instances, between, max_length))
            rows = covering
        while len(rows):
            # Only when something waits: the last ones are all drawn at once.
            if not buffer.room:
                yield from draw(several)
            added, rows = np.split(rows, [buffer.room])
            buffer.add(_prefixes(block, instances, added, max_length))
    yield from draw(len(buffer))


def evaluation_batches(
    source: SequenceSource, part: str, *, max_length: int, batch_size: int
) -> Iterator[Batch]:
    """The targets of a part with their histories, in the order of the users.

    Args:
        source: The users' sequences.
        part: `"validation"` or `"test"`.
        max_length: The last so many items of a history are the model's input.
        batch_size: Targets a batch.

    Yields:
        As :func:`~.streaming.streaming_evaluation_dataset`.
    """
    pieces: list[Batch] = []
    missing = batch_size
    for block in source.blocks():
        instances = Instances.of(block, part)
        rows = np.arange(len(instances))
        while len(rows):
            taken, rows = np.split(rows, [missing])
            pieces.append(_with_seen_items(block, instances, taken, max_length))
            missing -= len(taken)
            if not missing:
                yield _joined(pieces)
                pieces, missing = [], batch_size
    if pieces:
        yield _joined(pieces)


def _shuffled_blocks(
    prepared: PreparedData, generator: np.random.Generator
) -> Iterator[Sequences]:
    shards = generator.permutation(prepared.num_shards).tolist()
    readers = (
        prepared.shard_blocks(shard, block_users=_BLOCK_USERS) for shard in shards
    )
    return interleaved(readers, _OPEN_SHARDS)


def _prefixes(
    block: Sequences, instances: Instances, rows: np.ndarray, max_length: int
) -> Prefixes:
    ends = instances.targets[rows]
    starts = np.maximum(instances.starts[rows], ends - max_length)
    return Prefixes(
        windows(block.items, starts, ends + 1, max_length + 1),
        (ends - starts).astype(np.int32),
    )


def _with_seen_items(
    block: Sequences, instances: Instances, rows: np.ndarray, max_length: int
) -> Batch:
    prefixes = _prefixes(block, instances, rows, max_length)
    starts, ends = instances.starts[rows], instances.targets[rows]
    seen = windows(block.items, starts, ends, int((ends - starts).max()))
    inputs = {"item_ids": prefixes.histories, "seen_item_ids": seen}
    return inputs, prefixes.targets


def _joined(pieces: list[Batch]) -> Batch:
    longest = max(inputs["seen_item_ids"].shape[1] for inputs, _ in pieces)
    seen = [
        np.pad(ids, ((0, 0), (0, longest - ids.shape[1])))
        for ids in (inputs["seen_item_ids"] for inputs, _ in pieces)
    ]
    inputs = {
        "item_ids": np.concatenate([inputs["item_ids"] for inputs, _ in pieces]),
        "seen_item_ids": np.concatenate(seen),
    }
    return inputs, np.concatenate([targets for _, targets in pieces])
