"""Sequences to ``tf.train.Example`` bytes, all users at once and without TensorFlow.

The bytes are those of ``Example.SerializeToString(deterministic=True)``: map entries in
the order of their keys, packed numbers, minimal varints. Sizes are computed inside out
(values, list, feature, entry, features) and every part is then written straight to its
place in one buffer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline.contract import (
    EVENT_TYPES,
    EXTRA,
    ITEM_IDS,
    RATINGS,
    SPLIT,
    TIMESTAMPS,
    USER_ID,
)
from adaptiverec.pipeline.example_features import (
    BytesFeature,
    Feature,
    FloatFeature,
    Int64Feature,
)
from adaptiverec.pipeline.varints import varint_bytes, varint_sizes, write_varints

__all__ = ["Records", "encode_examples"]

# Field number and wire type: fields 1 and 2, length-delimited.
_FIELD_1, _FIELD_2 = b"\x0a", b"\x12"


@dataclasses.dataclass(frozen=True)
class Records:
    """Encoded records with room around each.

    Attributes:
        buffer: uint8, the records and the room.
        starts: int64 [num_records], where each record begins.
        lengths: int64 [num_records].
    """

    buffer: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def encode_examples(
    user_ids: pa.Array,
    offsets: np.ndarray,
    items: np.ndarray,
    times: np.ndarray | None,
    splits: np.ndarray,
    *,
    ratings: np.ndarray | None = None,
    event_types: pa.Array | None = None,
    extras: Mapping[str, pa.Array] | None = None,
    before: int = 0,
    after: int = 0,
) -> Records:
    """Encodes one Example a user.

    Args:
        user_ids: String array [num_users].
        offsets: int64 [num_users + 1]: user u has ``offsets[u]:offsets[u + 1]``, at
            least one interaction.
        items: Integers of shape [n].
        times: int64 of shape [n]; None for none.
        splits: int64 of shape [num_users, 2].
        ratings: Numbers of shape [n], kept as float32.
        event_types: String or large_string array [n].
        extras: The same, by the name of what is passed through.
        before: Bytes of room to leave before each record.
        after: Bytes of room to leave behind each record.

    Returns:
        The records, in the order of the users.
    """
    num_users = len(user_ids)
    features: dict[str, Feature] = {
        USER_ID: BytesFeature(user_ids, np.arange(num_users + 1)),
        ITEM_IDS: Int64Feature(items, offsets),
        SPLIT: Int64Feature(splits.reshape(-1), np.arange(0, 2 * num_users + 1, 2)),
    }
    if times is not None:
        features[TIMESTAMPS] = Int64Feature(times, offsets)
    if ratings is not None:
        features[RATINGS] = FloatFeature(ratings, offsets)
    if event_types is not None:
        features[EVENT_TYPES] = BytesFeature(event_types, offsets)
    for name, values in (extras or {}).items():
        features[EXTRA + name] = BytesFeature(values, offsets)
    return _encode(features, num_users, before, after)


def _encode(
    features: Mapping[str, Feature], num_records: int, before: int, after: int
) -> Records:
    # In the order of their keys' bytes, as deterministic serialisation has them.
    entries = [
        _Entry(key, feature)
        for key, feature in sorted(
            (name.encode(), feature) for name, feature in features.items()
        )
    ]
    map_sizes = sum((entry.size for entry in entries), np.zeros(num_records, np.int64))
    lengths = 1 + varint_sizes(map_sizes) + map_sizes
    room = lengths + before + after
    starts = np.cumsum(room) - room + before
    buffer = np.zeros(int(room.sum()), np.uint8)
    writer = _Writer(buffer, starts.copy())
    writer.constant(_FIELD_1)
    writer.varints(map_sizes)
    for entry in entries:
        writer.entry(entry)
    return Records(buffer, starts, lengths)


class _Entry:
    """A feature in the map of features: map entry { 1: key, 2: Feature { list } }."""

    def __init__(self, key: bytes, feature: Feature) -> None:
        self.feature = feature
        self.list_sizes = feature.list_sizes
        self.feature_sizes = 1 + varint_sizes(self.list_sizes) + self.list_sizes
        self.head = _FIELD_1 + varint_bytes(len(key)) + key + _FIELD_2
        self.entry_sizes = (
            len(self.head) + varint_sizes(self.feature_sizes) + self.feature_sizes
        )
        self.size = 1 + varint_sizes(self.entry_sizes) + self.entry_sizes


class _Writer:
    """Writes the same parts to all records, each at its own position."""

    def __init__(self, buffer: np.ndarray, positions: np.ndarray) -> None:
        self._buffer = buffer
        self._positions = positions

    def constant(self, data: bytes) -> None:
        for byte in data:
            self._buffer[self._positions] = byte
            self._positions += 1

    def varints(self, values: np.ndarray) -> None:
        sizes = varint_sizes(values)
        write_varints(self._buffer, self._positions, values, sizes)
        self._positions += sizes

    def entry(self, entry: _Entry) -> None:
        self.constant(_FIELD_1)
        self.varints(entry.entry_sizes)
        self.constant(entry.head)
        self.varints(entry.feature_sizes)
        self.constant(entry.feature.field)
        self.varints(entry.list_sizes)
        if entry.feature.heads is not None:
            self.constant(_FIELD_1)
            self.varints(entry.feature.heads)
        entry.feature.write(self._buffer, self._positions)
        self._positions += entry.feature.sizes
