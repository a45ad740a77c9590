"""The values of one feature of ``tf.train.Example``, for all records at once.

Each kind of feature knows how many bytes its values take in each record, and writes
them there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptiverec.pipeline.varints import varint_bytes, varint_sizes, write_varints

__all__ = ["BytesFeature", "Feature", "FloatFeature", "Int64Feature"]

# A field number and wire type: field 1, length-delimited.
_FIELD_1 = b"\x0a"


class Feature(ABC):
    """One feature of all records.

    Attributes:
        field: Field number and wire type of the list in ``tf.train.Feature``.
        sizes: int64 [num_records], bytes of the values in each record.
        heads: The same where the values are packed: the list message begins with their
            size. None where they are not.
    """

    field: bytes
    sizes: np.ndarray
    heads: np.ndarray | None

    @property
    def list_sizes(self) -> np.ndarray:
        """Bytes of the list message in each record."""
        if self.heads is None:
            return self.sizes
        return 1 + varint_sizes(self.heads) + self.sizes

    @abstractmethod
    def write(self, buffer: np.ndarray, starts: np.ndarray) -> None:
        """Writes the values.

        Args:
            buffer: uint8, written to.
            starts: Where each record's values go, int64 of shape [num_records].
        """


class Int64Feature(Feature):
    """An ``int64_list``: varints, packed.

    Args:
        values: Integers of shape [n].
        offsets: int64 of shape [num_records + 1]: record r has the values
            ``offsets[r]:offsets[r + 1]``, at least one.
    """

    field = b"\x1a"

    def __init__(self, values: np.ndarray, offsets: np.ndarray) -> None:
        self._values = values
        self._offsets = offsets
        self._value_sizes = varint_sizes(values)
        self.sizes = self.heads = _sums(self._value_sizes, offsets)

    def write(self, buffer: np.ndarray, starts: np.ndarray) -> None:  # noqa: D102
        positions = _places(starts, self._value_sizes, self._offsets)
        write_varints(buffer, positions, self._values, self._value_sizes)


class FloatFeature(Feature):
    """A ``float_list``: four bytes a value, packed.

    Args:
        values: Numbers of shape [n]; what no float32 can hold becomes infinite.
        offsets: As of :class:`Int64Feature`.
    """

    field = b"\x12"

    def __init__(self, values: np.ndarray, offsets: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            self._values = values.astype("<f4")
        self._offsets = offsets
        self.sizes = self.heads = np.diff(offsets) * 4

    def write(self, buffer: np.ndarray, starts: np.ndarray) -> None:  # noqa: D102
        sizes = np.full(len(self._values), 4, np.int64)
        positions = _places(starts, sizes, self._offsets)
        parts = self._values.view(np.uint8).reshape(-1, 4)
        for byte in range(4):
            buffer[positions + byte] = parts[:, byte]


class BytesFeature(Feature):
    """A ``bytes_list``: each value behind its length.

    Args:
        values: String or large_string array [n].
        offsets: As of :class:`Int64Feature`.
    """

    field = b"\x0a"
    heads = None

    def __init__(self, values: pa.Array, offsets: np.ndarray) -> None:
        self._ends, self._data = _framed(values)
        self._offsets = self._ends[offsets]
        self.sizes = np.diff(self._offsets)

    def write(self, buffer: np.ndarray, starts: np.ndarray) -> None:  # noqa: D102
        target, source = buffer.data, self._data
        bounds = self._offsets.tolist()
        # A copy of memory for each record: no arithmetic for each byte.
        for start, begin, end in zip(
            starts.tolist(), bounds[:-1], bounds[1:], strict=True
        ):
            target[start : start + end - begin] = source[begin:end]


def _framed(values: pa.Array) -> tuple[np.ndarray, memoryview]:
    """Each value behind field 1 and its length; where each ends, and all of it."""
    values = values.cast(pa.large_binary())
    sizes = pc.binary_length(values).dictionary_encode()
    heads = [_FIELD_1 + varint_bytes(size) for size in sizes.dictionary.to_pylist()]
    nothing = pa.scalar(b"", pa.large_binary())
    framed = pc.binary_join_element_wise(
        pa.array(heads, pa.large_binary()).take(sizes.indices), values, nothing
    )
    _, offsets, data = framed.buffers()
    ends = np.frombuffer(offsets, np.int64)[framed.offset :][: len(framed) + 1]
    return ends, memoryview(data if data is not None else b"").cast("B")


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
