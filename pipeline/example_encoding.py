"""Sequences to ``tf.train.Example`` bytes, all users at once and without TensorFlow.

The bytes are those of ``Example.SerializeToString(deterministic=True)``: map entries in
the order of their keys, packed integers, minimal varints. Sizes are computed inside out
(payload, list, feature, entry, features) and every part is then written straight to its
place in one buffer.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from adaptiverec.pipeline.contract import ITEM_IDS, SPLIT, TIMESTAMPS, USER_ID
from adaptiverec.pipeline.strings import offsets_and_bytes

__all__ = ["Records", "encode_examples"]

_VARINT_BITS = 7
_MAX_VARINT_BYTES = 10
# Field number and wire type: every field here is number 1, 2 or 3, length-delimited.
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"


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


def varint_sizes(values: np.ndarray) -> np.ndarray:
    """Bytes of each value as a varint.

    Args:
        values: Integers of shape [n]; negative ones take ten bytes, as in protobuf.

    Returns:
        int64 of shape [n].
    """
    unsigned = values.astype(np.uint64)
    sizes = np.ones(len(unsigned), np.int64)
    if not len(unsigned):
        return sizes
    bits = _VARINT_BITS
    largest = int(unsigned.max())
    while bits < 64 and largest >> bits:
        sizes += unsigned >= np.uint64(1 << bits)
        bits += _VARINT_BITS
    return sizes


def write_varints(
    buffer: np.ndarray, positions: np.ndarray, values: np.ndarray, sizes: np.ndarray
) -> None:
    """Writes each value as a varint of its size at its position.

    Args:
        buffer: uint8, written to.
        positions: int64 of shape [n].
        values: Integers of shape [n].
        sizes: What :func:`varint_sizes` says, int64 of shape [n].
    """
    rest = values.astype(np.uint64)
    positions = positions.copy()
    more = sizes - 1
    while len(rest):
        continues = more > 0
        low = (rest & np.uint64(0x7F)).astype(np.uint8)
        buffer[positions] = low | (continues.astype(np.uint8) << 7)
        if not continues.all():
            rest, positions, more = (
                rest[continues],
                positions[continues],
                more[continues],
            )
        rest = rest >> np.uint64(_VARINT_BITS)
        positions += 1
        more = more - 1


@dataclasses.dataclass
class _Feature:
    """One feature of all records: its key, kind and payload sizes.

    Attributes:
        key: Name of the feature.
        kind: The field of Feature it is in: 1 is bytes_list, 3 is int64_list.
        payload: int64 [num_records], bytes of the values.
    """

    key: bytes
    kind: bytes
    payload: np.ndarray

    def __post_init__(self) -> None:
        # Feature { kind { field 1: payload } }, in a map entry { 1: key, 2: Feature }.
        self.list_size = 1 + varint_sizes(self.payload) + self.payload
        self.feature_size = 1 + varint_sizes(self.list_size) + self.list_size
        self.head = _FIELD_1 + bytes([len(self.key)]) + self.key
        self.entry_size = (
            len(self.head) + 1 + varint_sizes(self.feature_size) + self.feature_size
        )
        self.size = 1 + varint_sizes(self.entry_size) + self.entry_size


def encode_examples(
    user_ids: pa.Array,
    offsets: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    splits: np.ndarray,
    *,
    before: int = 0,
    after: int = 0,
) -> Records:
    """Encodes one Example a user.

    Args:
        user_ids: String array [num_users].
        offsets: int64 [num_users + 1]: user u has ``offsets[u]:offsets[u + 1]``, at
            least one interaction.
        items: Integers of shape [n].
        times: int64 of shape [n].
        splits: int64 of shape [num_users, 2].
        before: Bytes of room to leave before each record.
        after: Bytes of room to leave behind each record.

    Returns:
        The records, in the order of the users.
    """
    item_sizes, time_sizes = varint_sizes(items), varint_sizes(times)
    split_values = splits.reshape(-1)
    split_sizes = varint_sizes(split_values)
    pairs = np.arange(0, len(split_values) + 1, 2)
    id_offsets, id_data = offsets_and_bytes(user_ids)
    id_offsets = id_offsets.astype(np.int64)

    # In the order of their keys, as deterministic serialisation has them.
    features = {
        ITEM_IDS: _Feature(ITEM_IDS.encode(), _FIELD_3, _sums(item_sizes, offsets)),
        SPLIT: _Feature(SPLIT.encode(), _FIELD_3, _sums(split_sizes, pairs)),
        TIMESTAMPS: _Feature(TIMESTAMPS.encode(), _FIELD_3, _sums(time_sizes, offsets)),
        USER_ID: _Feature(USER_ID.encode(), _FIELD_1, np.diff(id_offsets)),
    }
    map_size = sum(feature.size for feature in features.values())
    lengths = 1 + varint_sizes(map_size) + map_size
    room = lengths + before + after
    starts = np.cumsum(room) - room + before
    buffer = np.zeros(int(room.sum()), np.uint8)

    writer = _Writer(buffer, starts.copy())
    writer.constant(_FIELD_1)
    writer.varints(map_size)
    payload_starts = {key: writer.feature(feature) for key, feature in features.items()}

    for key, values, sizes, bounds in (
        (ITEM_IDS, items, item_sizes, offsets),
        (TIMESTAMPS, times, time_sizes, offsets),
        (SPLIT, split_values, split_sizes, pairs),
    ):
        positions = _places(payload_starts[key], sizes, bounds)
        write_varints(buffer, positions, values, sizes)
    ones = np.ones(int(id_offsets[-1] - id_offsets[0]), np.int64)
    positions = _places(payload_starts[USER_ID], ones, id_offsets - id_offsets[0])
    buffer[positions] = id_data[id_offsets[0] : id_offsets[-1]]
    return Records(buffer, starts, lengths)


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

    def feature(self, feature: _Feature) -> np.ndarray:
        """Writes all of a feature but its payload; returns where that begins."""
        self.constant(_FIELD_1)
        self.varints(feature.entry_size)
        self.constant(feature.head + _FIELD_2)
        self.varints(feature.feature_size)
        self.constant(feature.kind)
        self.varints(feature.list_size)
        self.constant(_FIELD_1)
        self.varints(feature.payload)
        payload_starts = self._positions.copy()
        self._positions += feature.payload
        return payload_starts


def _sums(sizes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The sum of ``sizes[offsets[i]:offsets[i + 1]]`` for every i."""
    total = np.concatenate(([0], np.cumsum(sizes)))
    return total[offsets[1:]] - total[offsets[:-1]]


def _places(
    payload_starts: np.ndarray, sizes: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """Where each value begins: one after the other from its record's payload start."""
    ends = np.cumsum(sizes)
    begins = ends - sizes
    total = np.concatenate(([0], ends))
    shift = payload_starts - total[offsets[:-1]]
    return begins + np.repeat(shift, np.diff(offsets))
