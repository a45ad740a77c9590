"""Tensors as protos, written and read without NumPy."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

from adaptiverec.serving import predict_pb2 as wire

__all__ = [
    "put_bools",
    "put_ids",
    "put_numbers",
    "read_bools",
    "read_floats",
    "read_ids",
    "read_ints",
    "shape_of",
]


def put_ids(
    tensor: wire.TensorProto, rows: Sequence[Sequence[bytes]], width: int
) -> None:
    """Fills a string tensor `[len(rows), width]`, with "" before shorter rows."""
    tensor.dtype = wire.DT_STRING
    tensor.tensor_shape.dim.add(size=len(rows))
    tensor.tensor_shape.dim.add(size=width)
    for row in rows:
        tensor.string_val.extend([b""] * (width - len(row)))
        tensor.string_val.extend(row)


def put_numbers(tensor: wire.TensorProto, numbers: Sequence[int]) -> None:
    """Fills an int32 tensor `[len(numbers)]`."""
    tensor.dtype = wire.DT_INT32
    tensor.tensor_shape.dim.add(size=len(numbers))
    tensor.int_val.extend(numbers)


def put_bools(tensor: wire.TensorProto, values: Sequence[bool]) -> None:
    """Fills a bool tensor `[len(values)]`."""
    tensor.dtype = wire.DT_BOOL
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.bool_val.extend(values)


def shape_of(tensor: wire.TensorProto) -> list[int]:
    """The shape."""
    return [dim.size for dim in tensor.tensor_shape.dim]


# A server that was started with enable_serialization_as_tensor_content answers in bytes;
# any other fills the field of the type.


def read_ids(tensor: wire.TensorProto) -> list[str]:
    """The strings, row after row.

    Raises:
        ValueError: They are no UTF-8, or the bytes are no strings.
    """
    if not tensor.tensor_content:
        return [item.decode() for item in tensor.string_val]
    count = 1
    for size in shape_of(tensor):
        count *= size
    content = tensor.tensor_content
    lengths, place = [], 0
    # TensorFlow's encoding: the lengths of all as varints, then all bytes.
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if place == len(content) or shift > 28:
                raise ValueError("its strings are cut off")
            byte = content[place]
            place += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if place + sum(lengths) != len(content):
        raise ValueError("its strings are cut off")
    ids = []
    for length in lengths:
        ids.append(content[place : place + length].decode())
        place += length
    return ids


def read_floats(tensor: wire.TensorProto) -> array.array[float]:
    """The float32 numbers, row after row.

    Raises:
        ValueError: The bytes are no whole numbers of four.
    """
    if not tensor.tensor_content:
        return array.array("f", tensor.float_val)
    return _from_bytes(array.array("f"), tensor.tensor_content)


def read_ints(tensor: wire.TensorProto) -> array.array[int]:
    """The int32 numbers, row after row.

    Raises:
        ValueError: The bytes are no whole numbers of four.
    """
    if not tensor.tensor_content:
        return array.array("i", tensor.int_val)
    return _from_bytes(array.array("i"), tensor.tensor_content)


def read_bools(tensor: wire.TensorProto) -> list[bool]:
    """The truth values, row after row."""
    if not tensor.tensor_content:
        return list(tensor.bool_val)
    return [byte != 0 for byte in tensor.tensor_content]


def _from_bytes(values: array.array, content: bytes) -> array.array:
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return values
