"""Between TensorProto, which requests and answers carry, and NumPy arrays."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from adaptiverec.serving.status import RequestError

__all__ = ["array_from_proto", "dtype_name", "proto_from_array"]

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

# What one value may stand for: a request of a few bytes must not take gigabytes.
_MAX_FILLED_VALUES = 2**24


def dtype_name(dtype: int) -> str:
    """The name of a ``tensorflow.DataType``, such as ``"DT_FLOAT"``."""
    if dtype in types_pb2.DataType.values():
        return types_pb2.DataType.Name(dtype)
    return str(dtype)


def array_from_proto(proto: tensor_pb2.TensorProto, *, name: str) -> np.ndarray:
    """Decodes a tensor of a request.

    As in TensorFlow, values come in ``tensor_content`` or in the field of their type,
    and a field that is shorter than the shape is filled up with its last value. One
    that is empty or too long is refused, where TensorFlow makes up or drops values.

    Args:
        proto: The tensor, of any shape.
        name: What the request calls it, for messages.

    Returns:
        An array of the proto's shape and type; of ``object`` with ``bytes`` elements
        for DT_STRING.

    Raises:
        RequestError: INVALID_ARGUMENT, the proto is not a tensor.
    """
    if proto.dtype not in _FIELDS:
        raise _parsing_error(
            name, f"the dtype {dtype_name(proto.dtype)} cannot be sent in a request"
        )
    shape = _shape(proto, name)
    size = math.prod(shape)
    dtype = tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype
    if proto.tensor_content:
        return _from_content(proto, dtype, size, name).reshape(shape)
    field, kind = _FIELDS[proto.dtype]
    values = getattr(proto, field)
    length = len(values) // 2 if kind == "pair" else len(values)
    if (
        length > size
        or (size > 0 and length == 0)
        or size > max(length, _MAX_FILLED_VALUES)
    ):
        raise _parsing_error(
            name, f"the shape {list(shape)} takes {size} values, and it has {length}"
        )
    if proto.dtype == types_pb2.DT_STRING:
        array = np.empty(length, dtype=object)
        array[:] = values
    elif kind == "bits":
        array = _narrow(values, np.uint16, name).view(dtype)
    elif kind == "pair":
        pairs = np.array(values, dtype=np.float64).reshape(-1, 2)
        array = (pairs[:, 0] + 1j * pairs[:, 1]).astype(dtype)
    elif field == "int_val":
        array = _narrow(values, dtype, name)
    else:
        array = np.array(values, dtype=dtype)
    if length < size:
        array = np.concatenate([array, np.repeat(array[-1:], size - length)])
    return array.reshape(shape)


def proto_from_array(
    value: np.ndarray | np.generic | bytes,
) -> tensor_pb2.TensorProto:
    """Encodes an output, its values in the field of their type.

    That is how tensorflow_model_server answers, and what clients read (``float_val``);
    ``tf.make_tensor_proto`` writes ``tensor_content`` instead.

    Args:
        value: The values, of any shape; ``bytes`` or an array of them for strings.

    Returns:
        The tensor, of the same shape and type.
    """
    # A session gives a scalar as a NumPy scalar, or as bytes.
    array = np.asarray(value, dtype=object if isinstance(value, bytes) else None)
    dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=dtype)
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


def _shape(proto: tensor_pb2.TensorProto, name: str) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(length < 0 for length in shape):
        raise _parsing_error(name, f"the shape {list(shape)} is not fully known")
    return shape


def _from_content(
    proto: tensor_pb2.TensorProto, dtype: Any, size: int, name: str
) -> np.ndarray:
    content = proto.tensor_content
    if proto.dtype == types_pb2.DT_STRING:
        strings = _strings_from_content(content, size)
        if strings is None:
            raise _parsing_error(name, f"tensor_content must hold {size} strings")
        array = np.empty(size, dtype=object)
        array[:] = strings
        return array
    expected = size * np.dtype(dtype).itemsize
    if len(content) != expected:
        raise _parsing_error(
            name,
            f"the shape takes {expected} bytes of tensor_content, and it has "
            f"{len(content)}",
        )
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


def _narrow(values: Any, dtype: Any, name: str) -> np.ndarray:
    """Integers that the wire gives 32 bits, in the bits that their type has."""
    wide = np.array(values, dtype=np.int32)
    narrow = wide.astype(dtype)
    if not np.array_equal(narrow, wide):
        raise _parsing_error(
            name, f"a value is out of the range of {np.dtype(dtype).name}"
        )
    return narrow


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _parsing_error(name: str, reason: str) -> RequestError:
    return RequestError(
        grpc.StatusCode.INVALID_ARGUMENT, f"tensor parsing error: {name}: {reason}"
    )
