"""Tensors on the wire, against TensorFlow's own encoding and decoding."""

from __future__ import annotations

import math

import grpc
import hypothesis.extra.numpy as hypothesis_numpy
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2

from adaptiverec.serving.status import RequestError
from adaptiverec.serving.tensors import (
    array_from_proto,
    content_proto_from_array,
    proto_from_array,
)

NUMPY_TYPES = [
    np.float16,
    np.float32,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
    np.complex64,
    np.complex128,
]

SHAPES = hypothesis_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.sampled_from(NUMPY_TYPES).flatmap(
    lambda dtype: hypothesis_numpy.arrays(dtype, SHAPES)
)
STRINGS = hypothesis_numpy.arrays(
    object, SHAPES, elements=st.binary(max_size=5), fill=st.nothing()
)


def assert_same(array, expected):
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


@given(st.one_of(NUMBERS, STRINGS))
def test_tensorflow_reads_what_we_write(array):
    proto = proto_from_array(array)
    assert proto.tensor_content == b""
    assert_same(tf.make_ndarray(proto), array)
    # The bytes are canonical, too: as if the fields had been filled one by one.
    assert tensor_pb2.TensorProto.FromString(proto.SerializeToString()) == proto


@given(st.one_of(NUMBERS, STRINGS))
def test_we_read_what_tensorflow_writes(array):
    proto = tf.make_tensor_proto(array)
    assert_same(array_from_proto(proto, name="x"), array)


@given(st.one_of(NUMBERS, STRINGS))
def test_we_read_the_c_runtime_s_content(array):
    # For strings too, it packs everything into tensor_content.
    with tf.device("cpu"):
        data = tf.io.serialize_tensor(tf.constant(array)).numpy()
    proto = tensor_pb2.TensorProto.FromString(data)
    assert_same(array_from_proto(proto, name="x"), array)


@given(st.one_of(NUMBERS, STRINGS))
def test_we_read_what_we_write(array):
    assert_same(array_from_proto(proto_from_array(array), name="x"), array)


def test_bfloat16_and_scalars():
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    proto = proto_from_array(array)
    assert proto.dtype == types_pb2.DT_BFLOAT16
    # The upper halves of the float32 0x3FC00000 and 0xC0000000.
    assert list(proto.half_val) == [0x3FC0, 0xC000]
    assert_same(array_from_proto(proto, name="x"), array)
    assert proto_from_array(np.float32(2)).float_val == [2.0]
    assert proto_from_array(b"id").string_val == [b"id"]
    assert proto_from_array(b"id").HasField("tensor_shape")


def test_other_types_are_written_as_tensorflow_writes_them():
    array = np.array([1, 2], ml_dtypes.float8_e5m2)
    assert proto_from_array(array) == tf.make_tensor_proto(array)


def proto(dtype, dims, **fields):
    tensor = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in dims:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def decoded(tensor):
    return array_from_proto(tensor, name="x").tolist()


def test_one_value_stands_for_all():
    assert decoded(proto(types_pb2.DT_INT32, [2, 2], int_val=[7, 8])) == [
        [7, 8],
        [8, 8],
    ]
    assert decoded(proto(types_pb2.DT_STRING, [3], string_val=[b"a"])) == 3 * [b"a"]


@pytest.mark.parametrize(
    ("tensor", "values"),
    [
        # Nothing is nought.
        (proto(types_pb2.DT_INT32, [2]), [0, 0]),
        (proto(types_pb2.DT_STRING, [2]), [b"", b""]),
        (proto(types_pb2.DT_COMPLEX64, [1]), [0j]),
        (proto(types_pb2.DT_BFLOAT16, [1]), [0.0]),
        # Another type's field is none of this one's.
        (proto(types_pb2.DT_FLOAT, [1], int_val=[1]), [0.0]),
        # Too much is cut.
        (proto(types_pb2.DT_INT32, [2], int_val=[1, 2, 3]), [1, 2]),
        (proto(types_pb2.DT_INT32, [0], int_val=[1]), []),
        (proto(types_pb2.DT_INT32, [], int_val=[1, 2]), 1),
        (proto(types_pb2.DT_COMPLEX64, [1], scomplex_val=[1, 2, 3, 4]), [1 + 2j]),
        (
            proto(types_pb2.DT_COMPLEX128, [1], dcomplex_val=[0, math.inf]),
            [complex(0, math.inf)],
        ),
        # 300 is 256 + 44.
        (proto(types_pb2.DT_INT8, [1], int_val=[300]), [44]),
        (proto(types_pb2.DT_UINT8, [1], int_val=[-1]), [255]),
        (proto(types_pb2.DT_HALF, [1], half_val=[2**16]), [0.0]),
    ],
)
def test_half_broken_tensors_are_mended_as_tensorflow_does(tensor, values):
    assert decoded(tensor) == values


def test_an_unknown_rank_is_not_looked_at():
    tensor = proto(types_pb2.DT_INT32, [], int_val=[1])
    tensor.tensor_shape.unknown_rank = True
    assert decoded(tensor) == 1


@pytest.mark.parametrize(
    "tensor",
    [
        # A few bytes must not make the server take a terabyte.
        proto(types_pb2.DT_INT32, [2**20, 2**20], int_val=[1]),
        proto(types_pb2.DT_INT32, [2**40, 0]),
        proto(types_pb2.DT_INT32, [-1], int_val=[1]),
        # More values than 63 bits can count.
        proto(types_pb2.DT_INT32, [2**62, 2**62]),
        proto(types_pb2.DT_INT32, [2**62, 2**62, 0]),
        proto(types_pb2.DT_INT32, 255 * [1]),
        proto(types_pb2.DT_INT32, 100 * [1]),
        proto(types_pb2.DT_INT32, [2], tensor_content=b"1234"),
        proto(types_pb2.DT_STRING, [1], tensor_content=b"\x05abc"),
        proto(types_pb2.DT_STRING, [1], tensor_content=b"\xff" * 11),
        proto(types_pb2.DT_STRING, [2], tensor_content=b"\x01"),
        proto(types_pb2.DT_VARIANT, [1]),
        proto(types_pb2.DT_INVALID, []),
        proto(999, []),
    ],
)
def test_malformed_tensors_are_invalid(tensor):
    with pytest.raises(RequestError) as caught:
        array_from_proto(tensor, name="x")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == "tensor parsing error: x"


@given(st.one_of(NUMBERS, STRINGS))
def test_tensorflow_reads_our_content(array):
    tensor = content_proto_from_array(array)
    parsed = tf.io.parse_tensor(tensor.SerializeToString(), tensor.dtype).numpy()
    if array.dtype == object and array.ndim == 0:
        assert parsed == array.item()
    else:
        assert_same(parsed, array)
    assert_same(array_from_proto(tensor, name="x"), array)
