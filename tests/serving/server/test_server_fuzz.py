"""Requests that no client means, to a recommender: always an answer, never a crash.

And never UNKNOWN or INTERNAL, which say that the server is at fault.
"""

from __future__ import annotations

import math

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from adaptiverec.serving.server import ModelServer

# What a client may have done wrong.
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# The server lives as long as the module, so each example may use it.
SETTINGS = settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "in batches"])
def stubs(base_path, new_caller, request):
    with ModelServer(
        model_base_path=base_path,
        model_name="toy",
        port=0,
        max_num_load_retries=0,
        enable_model_warmup=False,
        enable_batching=request.param,
    ) as server:
        caller = new_caller(server.port)
        yield caller
        caller.channel.close()


@pytest.fixture(scope="module")
def signatures(stubs):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    request.model_spec.name = "toy"
    packed = stubs.prediction.GetModelMetadata(request).metadata["signature_def"]
    definitions = get_model_metadata_pb2.SignatureDefMap()
    packed.Unpack(definitions)
    return definitions.signature_def


def code_of(stubs, request, method="Predict", service="prediction"):
    try:
        getattr(getattr(stubs, service), method)(request, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def assert_survives(stubs, request, *args):
    assert code_of(stubs, request, *args) in ALLOWED


IDS = st.one_of(
    st.sampled_from([b"", b"item-1", b"\xff\xfe", b"\x00", b"x" * 5000]),
    st.binary(max_size=12),
)
NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, 1, 10, 2**31 - 1, -1])
)
DIMENSIONS = st.lists(
    st.sampled_from([0, 1, 1, 2, 3, 7, -1, 2**20, 2**40, 2**62]), max_size=4
)


@st.composite
def tensors(draw):
    """Of any type and shape, with values in any field, whether or not they fit."""
    proto = tensor_pb2.TensorProto(
        dtype=draw(
            st.one_of(
                st.sampled_from(
                    [types_pb2.DT_STRING, types_pb2.DT_INT32, types_pb2.DT_BOOL]
                ),
                st.sampled_from(sorted(set(types_pb2.DataType.values()))),
            )
        )
    )
    for size in draw(DIMENSIONS):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.booleans())
    proto.string_val.extend(draw(st.lists(IDS, max_size=6)))
    proto.int_val.extend(draw(st.lists(NUMBERS, max_size=6)))
    proto.int64_val.extend(draw(st.lists(NUMBERS, max_size=3)))
    proto.bool_val.extend(draw(st.lists(st.booleans(), max_size=3)))
    floats = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.5])
    proto.float_val.extend(draw(st.lists(floats, max_size=3)))
    proto.tensor_content = draw(st.one_of(st.just(b""), st.binary(max_size=24)))
    return proto


def plausible(draw, info):
    """A tensor of the right type, of small and perhaps unequal shape."""
    rank = len(info.tensor_shape.dim)
    shape = draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank))
    size = math.prod(shape)
    if info.dtype == types_pb2.DT_STRING:
        array = np.empty(size, object)
        array[:] = draw(st.lists(IDS, min_size=size, max_size=size))
    elif info.dtype == types_pb2.DT_BOOL:
        array = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    else:
        array = np.array(draw(st.lists(NUMBERS, min_size=size, max_size=size)))
    dtype = tf.dtypes.as_dtype(info.dtype).as_numpy_dtype
    return tf.make_tensor_proto(array.astype(dtype).reshape(shape), info.dtype)


@SETTINGS
@given(data=st.data())
def test_predict(stubs, signatures, data):
    name = data.draw(st.sampled_from([*sorted(signatures), "", "nobody's"]))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = data.draw(st.sampled_from(["toy", "toy", "toy", "", "x"]))
    request.model_spec.signature_name = name
    inputs = signatures[name].inputs if name in signatures else {}
    for alias in inputs:
        kind = data.draw(st.sampled_from(["plausible", "plausible", "any", "none"]))
        if kind == "plausible":
            request.inputs[alias].CopyFrom(plausible(data.draw, inputs[alias]))
        elif kind == "any":
            request.inputs[alias].CopyFrom(data.draw(tensors()))
    if data.draw(st.integers(0, 9)) == 0:
        request.inputs["extra"].CopyFrom(data.draw(tensors()))
    outputs = sorted(signatures[name].outputs) if name in signatures else []
    request.output_filter.extend(
        data.draw(st.lists(st.sampled_from([*outputs, "none"]), max_size=2))
    )
    assert_survives(stubs, request)


MESSAGES = {
    "Predict": (predict_pb2.PredictRequest, "prediction"),
    "Classify": (classification_pb2.ClassificationRequest, "prediction"),
    "Regress": (regression_pb2.RegressionRequest, "prediction"),
    "MultiInference": (inference_pb2.MultiInferenceRequest, "prediction"),
    "GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        "prediction",
    ),
    "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, "models"),
}


@SETTINGS
@given(data=st.binary(max_size=60), method=st.sampled_from(sorted(MESSAGES)))
@example(data=b"\x0a\x05\x0a\x03toy", method="Classify")
@example(data=b"\x0a\x05\x0a\x03toy", method="Regress")
@example(data=b"\x0a\x05\x0a\x03toy", method="GetModelStatus")
def test_any_bytes_that_are_a_message(stubs, data, method):
    message, service = MESSAGES[method]
    try:
        request = message.FromString(data)
    except DecodeError:
        return
    assert_survives(stubs, request, method, service)


@settings(SETTINGS, max_examples=20)
@given(data=st.binary(max_size=30))
def test_bytes_that_are_no_message(stubs, data):
    call = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    # INTERNAL is gRPC's own word for what it cannot read.
    code = call.future(data, timeout=60).code()
    assert code in {*ALLOWED, grpc.StatusCode.INTERNAL}


def recommend(history, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    inputs = {"history": np.array(history, object), **inputs}
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.mark.parametrize("k", [-(2**31), -1, 0, 1, 5, 10**4, 2**31 - 1])
@pytest.mark.parametrize(
    "history",
    [
        [[]],
        [[b""]],
        [[b"\xff\xfe not UTF-8"]],
        [[b"nobody knows"]],
        [[b"x" * 2**20]],
    ],
    ids=["empty", "padding", "not UTF-8", "unknown", "long"],
)
def test_k_and_histories_at_their_ends(stubs, history, k):
    request = recommend(np.array(history, object), k=np.array([k], np.int32))
    code = code_of(stubs, request)
    assert code in ALLOWED
    if k < 1:
        assert code == grpc.StatusCode.INVALID_ARGUMENT


LONG = [b"item-%d" % (n % 100) for n in range(100_000)]


@pytest.mark.parametrize(
    "history",
    [
        LONG,
        [b"nobody's"] * 100_000,
        [b""] * 99_999 + [b"item-1"],
        [b"\xff" * (n % 7) for n in range(100_000)],
        [b"%d" % n for n in range(100_000)],
    ],
    ids=["known", "unknown", "padding", "not UTF-8", "all different"],
)
def test_a_long_history(stubs, history):
    for k in (5, 2**31 - 1):
        request = recommend([history], k=np.array([k], np.int32))
        assert code_of(stubs, request) == grpc.StatusCode.OK


@pytest.mark.parametrize("alias", ["exclude", "allow"])
def test_long_lists_of_items(stubs, alias):
    lists = np.array([LONG], object)
    request = recommend([[b"item-1"]], k=np.array([5], np.int32), **{alias: lists})
    assert code_of(stubs, request) == grpc.StatusCode.OK


def test_a_long_history_of_every_signature(stubs, signatures):
    """Also where it makes no sense: to be refused, then, and not to be fatal."""
    long = np.array(LONG, object)
    for name, signature in signatures.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "toy"
        request.model_spec.signature_name = name
        for alias, info in signature.inputs.items():
            rank = len(info.tensor_shape.dim)
            shape = (1,) * (rank - 1) + (-1,)
            if info.dtype == types_pb2.DT_STRING:
                value = long.reshape(shape)
            elif info.dtype == types_pb2.DT_BOOL:
                value = np.ones([1], bool)
            else:
                dtype = tf.dtypes.as_dtype(info.dtype).as_numpy_dtype
                lengths = alias.endswith("_lengths")
                value = np.array([len(long) if lengths else 5], dtype)
            request.inputs[alias].CopyFrom(tf.make_tensor_proto(value, info.dtype))
        assert_survives(stubs, request)


@pytest.mark.parametrize(
    "lengths",
    [
        [-1],
        [-(2**63)],
        [2**63 - 1],
        [2**62, 2**62, 2**62, 2**62 + 2],
        [2**31, -(2**31) + 2],
        [3, -1],
        [1],
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("alias", ["history", "exclude", "allow"])
def test_lengths_that_do_not_add_up(stubs, alias, lengths):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    request.model_spec.signature_name = "recommend_ragged"
    inputs = {
        "history_values": np.array([b"item-1", b"item-2"], object),
        "history_lengths": np.array([2], np.int64),
    }
    inputs[f"{alias}_values"] = np.array([b"item-1", b"item-2"], object)
    inputs[f"{alias}_lengths"] = np.array(lengths, np.int64)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    code = code_of(stubs, request)
    # Some of these add up to 2, below zero or beyond 64 bits.
    assert code in ALLOWED - {grpc.StatusCode.OK}


def test_examples_that_are_none(stubs):
    """Classify takes any protos; what they hold is the model's to refuse."""
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "toy"
    request.model_spec.signature_name = "classify"
    features = request.input.example_list.examples.add().features.feature
    for fill in (
        lambda feature: feature.bytes_list.value.extend(LONG),
        lambda feature: feature.bytes_list.value.append(b"\xff\xfe"),
        lambda feature: feature.float_list.value.append(math.nan),
        lambda feature: feature.int64_list.value.append(-(2**63)),
        lambda feature: None,
    ):
        features["history"].Clear()
        fill(features["history"])
        assert_survives(stubs, request, "Classify")


def test_many_rows(stubs):
    history = 900 * [[b"item-1", b"item-2"]]
    assert_survives(stubs, recommend(history, k=np.full([900], 5, np.int32)))


def test_huge_shapes_of_nothing(stubs, signatures):
    for alias, info in signatures["serving_default"].inputs.items():
        for shape in ([2**40], [2**31, 2**31], [2**62, 4], [0, 2**40], [2**40, 0]):
            request = recommend([[b"item-1"]], k=np.array([1], np.int32))
            tensor = tensor_pb2.TensorProto(dtype=info.dtype)
            for size in shape:
                tensor.tensor_shape.dim.add(size=size)
            request.inputs[alias].CopyFrom(tensor)
            assert_survives(stubs, request)


NAMES = [
    "../toy",
    "toy/../toy",
    "toy/1",
    "/etc",
    "..",
    "toy\0",
    "\u202etoy",
    "x" * 10**5,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_that_are_paths(stubs, name):
    """A name is looked up among the names of models and labels, and nowhere else."""
    for field in ("name", "version_label", "signature_name"):
        request = recommend([[b"item-1"]])
        setattr(request.model_spec, field, name)
        code = code_of(stubs, request)
        expected = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}
        if field == "version_label":
            expected.add(grpc.StatusCode.INVALID_ARGUMENT)
        assert code in expected
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = name
    assert code_of(stubs, status, "GetModelStatus", "models") == (
        grpc.StatusCode.NOT_FOUND
    )


@pytest.mark.parametrize("version", [-1, 0, 2, 2**31, 2**63 - 1, -(2**63)])
def test_versions_that_are_not_there(stubs, version):
    request = recommend([[b"item-1"]])
    request.model_spec.version.value = version
    assert code_of(stubs, request) == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("path", ["../../etc", "etc", "", "\0", "s3://nobody/x"])
def test_configurations(stubs, path):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="toy", base_path=path)
    code = code_of(stubs, request, "HandleReloadConfigRequest", "models")
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    # And the model is served as before.
    assert code_of(stubs, recommend([[b"item-1"]])) == grpc.StatusCode.OK
