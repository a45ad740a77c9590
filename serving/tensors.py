"""Between TensorProto, which requests and answers carry, and NumPy arrays."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from adaptiverec.serving.status import RequestError

__all__ = [
    "array_from_proto",
    "content_proto_from_array",
    "dtype_name",
    "proto_from_array",
]

# The field that holds the values of each type. The kind says how: "plain" as they are,
# "bits" as the 16 bits of a float, "pair" as real and imaginary part in turn.
_FIELDS: dict[int, tuple[str, str]] = {
    types_pb2.DT_FLOAT: ("float_val", "plain"),
    types_pb2.DT_DOUBLE: ("double_val", "plain"),
    types_pb2.DT_INT32: ("int_val", "plain"),
    types_pb2.DT_INT16: ("int_val", "plain"),
    types_pb2.DT_INT8: ("int_val", "plain"),
    types_pb2.DT_UINT16: ("int_val", "plain"),
    types_pb2.DT_UINT8: ("int_val", "plain"),
    types_pb2.DT_INT64: ("int64_val", "plain"),
    types_pb2.DT_UINT32: ("uint32_val", "plain"),
    types_pb2.DT_UINT64: ("uint64_val", "plain"),
    types_pb2.DT_BOOL: ("bool_val", "plain"),
    types_pb2.DT_STRING: ("string_val", "plain"),
    types_pb2.DT_HALF: ("half_val", "bits"),
    types_pb2.DT_BFLOAT16: ("half_val", "bits"),
    types_pb2.DT_COMPLEX64: ("scomplex_val", "pair"),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", "pair"),
}

# Packed fields of fixed width lie on the wire as they lie in memory, so whole arrays
# can be handed over as bytes: number of the field, bytes of the type.
_PACKED = {
    types_pb2.DT_FLOAT: (5, "<f4"),
    types_pb2.DT_DOUBLE: (6, "<f8"),
}
_LENGTH_DELIMITED = 2

_NUMPY_TYPES = {
    number: np.dtype(tf.dtypes.as_dtype(number).as_numpy_dtype) for number in _FIELDS
}

_DATA_TYPES = {dtype: number for number, dtype in _NUMPY_TYPES.items()}

_MAX_INT64 = 2**63 - 1
_MAX_DIMENSIONS = 254

# How many values may be made up, or rows without any: a request of a few bytes must not
# take gigabytes. TensorFlow tries, and refuses what it gets no memory for.
_MAX_FILLED_VALUES = 2**20


def dtype_name(dtype: int) -> str:
    """The name of a ``tensorflow.DataType``, such as ``"DT_FLOAT"``."""
    if dtype in types_pb2.DataType.values():
        return types_pb2.DataType.Name(dtype)
    return str(dtype)


def array_from_proto(proto: tensor_pb2.TensorProto, *, name: str) -> np.ndarray:
    """Decodes a tensor of a request, as TensorFlow's C++ does.

    Values come in ``tensor_content`` or in the field of their type. A field that is shorter
    than the shape is filled up with its last value, an empty one with zeros or ``""``; one
    that is longer is cut; integers that their type has no room for wrap around.

    Args:
        proto: The tensor, of any shape.
        name: What the request calls it, for messages.

    Returns:
        An array of the proto's shape and type; of ``object`` with ``bytes`` elements
        for DT_STRING.

    Raises:
        RequestError: INVALID_ARGUMENT, the proto is not a tensor.
    """
    array = _decode(proto)
    if array is None:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT, f"tensor parsing error: {name}"
        )
    return array


def _decode(proto: tensor_pb2.TensorProto) -> np.ndarray | None:
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.dtype not in _FIELDS or not _is_shape(shape):
        return None
    size = math.prod(shape)
    dtype = _NUMPY_TYPES[proto.dtype]
    try:
        if not size and max(shape) > _MAX_FILLED_VALUES:
            return None
        if not size:
            return np.empty(shape, dtype=dtype)
        if proto.tensor_content:
            array = _from_content(proto, dtype, size)
        else:
            array = _from_field(proto, dtype, size)
        return None if array is None else array.reshape(shape)
    except (MemoryError, ValueError):
        # NumPy has fewer dimensions than TensorFlow, and a limit to the size of each.
        return None


def _from_field(
    proto: tensor_pb2.TensorProto, dtype: Any, size: int
) -> np.ndarray | None:
    field, kind = _FIELDS[proto.dtype]
    values = getattr(proto, field)
    length = len(values) // 2 if kind == "pair" else len(values)
    if size > max(length, _MAX_FILLED_VALUES):
        return None
    if length > size:
        values = values[: 2 * size if kind == "pair" else size]
        length = size
    if proto.dtype == types_pb2.DT_STRING:
        array = np.empty(length, dtype=object)
        array[:] = values
        zero: Any = b""
    else:
        array = _numbers(values, kind, field, dtype)
        zero = array.dtype.type(0)
    if length < size:
        fill = array[-1] if length else zero
        filled = np.full(size, fill, dtype=array.dtype)
        filled[:length] = array
        array = filled
    return array


def _numbers(values: Any, kind: str, field: str, dtype: Any) -> np.ndarray:
    if kind == "bits":
        return np.array(values, dtype=np.int32).astype(np.uint16).view(dtype)
    if kind == "pair":
        pairs = np.array(values, dtype=np.float64)
        # Not by arithmetic: infinity times 1j has a real part that is not a number.
        return pairs[: len(pairs) // 2 * 2].view(np.complex128).astype(dtype)
    if field == "int_val":
        return np.array(values, dtype=np.int32).astype(dtype)
    return np.array(values, dtype=dtype)


def proto_from_array(
    value: np.ndarray | np.generic | bytes, proto: tensor_pb2.TensorProto | None = None
) -> tensor_pb2.TensorProto:
    """Encodes an output, its values in the field of their type.

    That is how tensorflow_model_server answers, and what clients read (``float_val``);
    ``tf.make_tensor_proto`` writes ``tensor_content`` instead.

    Args:
        value: The values, of any shape; ``bytes`` or an array of them for strings.
        proto: An empty one to write to; by default a new one.

    Returns:
        The tensor, of the same shape and type.
    """
    # A session gives a scalar as a NumPy scalar, or as bytes.
    array = np.asarray(value, dtype=object if isinstance(value, bytes) else None)
    dtype = _DATA_TYPES.get(array.dtype)
    proto = tensor_pb2.TensorProto() if proto is None else proto
    if dtype is None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return proto
    proto.dtype = dtype
    # An empty shape is a scalar, and must be there to say so.
    proto.tensor_shape.SetInParent()
    for length in array.shape:
        proto.tensor_shape.dim.add(size=length)
    field, kind = _FIELDS[dtype]
    flat = array.reshape(-1)
    if dtype in _PACKED:
        number, layout = _PACKED[dtype]
        data = flat.astype(layout, copy=False).tobytes()
        tag = bytes([number << 3 | _LENGTH_DELIMITED])
        proto.MergeFromString(tag + _varint(len(data)) + data)
        return proto
    if kind == "bits":
        flat = flat.view(np.uint16)
    elif kind == "pair":
        flat = flat.view(flat.real.dtype)
    getattr(proto, field).extend(flat.tolist())
    return proto


def content_proto_from_array(
    array: np.ndarray, proto: tensor_pb2.TensorProto | None = None
) -> tensor_pb2.TensorProto:
    """Encodes an output in ``tensor_content``, which clients read faster.

    Args:
        array: The values, of any shape; ``object`` with ``bytes`` elements for strings.
        proto: An empty one to write to; by default a new one.

    Returns:
        The tensor, of the same shape and type.
    """
    dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    proto = tensor_pb2.TensorProto() if proto is None else proto
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()
    for length in array.shape:
        proto.tensor_shape.dim.add(size=length)
    if dtype == types_pb2.DT_STRING:
        strings = array.reshape(-1).tolist()
        lengths = b"".join(_varint(len(string)) for string in strings)
        proto.tensor_content = lengths + b"".join(strings)
    else:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
    return proto


def _is_shape(shape: tuple[int, ...]) -> bool:
    """Whether TensorFlow would have it: no negative length, a number of values in 63 bits."""
    size = 1
    for length in shape:
        if length < 0:
            return False
        # In order, as TensorFlow does: what has grown too large stays so, even times 0.
        size *= length
        if size > _MAX_INT64:
            return False
    return len(shape) <= _MAX_DIMENSIONS


def _from_content(
    proto: tensor_pb2.TensorProto, dtype: Any, size: int
) -> np.ndarray | None:
    content = proto.tensor_content
    if proto.dtype == types_pb2.DT_STRING:
        strings = _strings_from_content(content, size)
        if strings is None:
            return None
        array = np.empty(size, dtype=object)
        array[:] = strings
        return array
    if len(content) != size * np.dtype(dtype).itemsize:
        return None
    # A copy: TensorFlow wants aligned memory that it may write to.
    return np.frombuffer(content, dtype=dtype).copy()


def _strings_from_content(content: bytes, size: int) -> list[bytes] | None:
    """TensorFlow's form, the lengths as varints, then the strings; else None."""
    lengths: list[int] = []
    length, shift, position = 0, 0, 0
    while len(lengths) < size:
        if position == len(content) or shift > 63:
            return None
        byte = content[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(length)
            length, shift = 0, 0
    if position + sum(lengths) != len(content):
        return None
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
