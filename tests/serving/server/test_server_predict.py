"""What the server answers, asked with tensorflow-serving-api's own client stubs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from adaptiverec.serving.grpc_server import GrpcServer
from adaptiverec.serving.server_core import ServerCore

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


def test_answers_in_typed_fields_and_says_who_answered(caller, helpers):
    response = caller.prediction.Predict(helpers.predict_request("numbers"))
    outputs = response.outputs
    assert set(outputs) == {"number", "x_doubled", "n_plus_one", "x_is_positive"}
    assert list(outputs["x_doubled"].float_val) == [3.0, -4.0]
    assert [dim.size for dim in outputs["x_doubled"].tensor_shape.dim] == [2]
    assert outputs["x_doubled"].dtype == types_pb2.DT_FLOAT
    assert list(outputs["n_plus_one"].int64_val) == [4]
    assert list(outputs["x_is_positive"].bool_val) == [True, False]
    assert list(outputs["number"].float_val) == [1.0]
    assert len(outputs["number"].tensor_shape.dim) == 0
    assert not any(output.tensor_content for output in outputs.values())
    assert response.model_spec.name == "toy"
    assert response.model_spec.version.value == 7
    assert response.model_spec.signature_name == "numbers"


def test_the_default_signature_is_serving_default(caller, helpers):
    request = helpers.predict_request(
        "", history=[["a", "zz"], ["b", ""]], k=np.array([2, 1], np.int32)
    )
    response = caller.prediction.Predict(request)
    assert response.model_spec.signature_name == "serving_default"
    # The toy ranks a, b, c, ... and leaves out what was seen.
    assert list(response.outputs["items"].string_val) == [b"b", b"c", b"a", b""]
    assert list(response.outputs["scores"].float_val) == [4.0, 3.0, 5.0, 0.0]
    assert list(response.outputs["unknown_items"].int_val) == [1, 0]


def test_a_version_may_be_named(caller, helpers):
    response = caller.prediction.Predict(helpers.predict_request(version=7))
    assert response.model_spec.version.value == 7


def test_numbers_may_come_in_typed_fields_and_empty(caller, helpers):
    request = helpers.predict_request(
        x=np.zeros([0], np.float32), n=np.array([5, 6], np.int64)
    )
    request.inputs["n"].tensor_content = b""
    request.inputs["n"].int64_val.extend([5, 6])
    response = caller.prediction.Predict(request)
    assert list(response.outputs["n_plus_one"].int64_val) == [6, 7]
    assert [dim.size for dim in response.outputs["x_doubled"].tensor_shape.dim] == [0]
    assert list(response.outputs["x_doubled"].float_val) == []


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"model": "x"}, NOT_FOUND, "Servable not found for request: Latest(x)"),
        (
            {"model": "x", "version": 7},
            NOT_FOUND,
            "Servable not found for request: Specific(x, 7)",
        ),
        (
            {"version": 8},
            NOT_FOUND,
            "Servable not found for request: Specific(toy, 8)",
        ),
        ({"model": ""}, INVALID, "ModelSpec has no name specified."),
        (
            {"signature": "x"},
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "x" not found.',
        ),
    ],
)
def test_refuses_what_is_not_there(caller, helpers, change, code, message):
    assert caller.refusal(helpers.predict_request(**change)) == (code, message)


def test_refuses_a_request_without_a_model(caller):
    request = predict_pb2.PredictRequest()
    assert caller.refusal(request) == (INVALID, "Missing ModelSpec")


def test_refuses_an_unknown_version_label(caller, helpers):
    request = helpers.predict_request()
    request.model_spec.version_label = "stable"
    assert caller.refusal(request) == (
        INVALID,
        "Unrecognized servable version label: stable",
    )


def test_refuses_inputs_that_are_not_the_signatures(caller, helpers):
    x, n = np.float32([1]), np.int64([1])
    assert caller.refusal(helpers.predict_request(x=x)) == (
        INVALID,
        "input size does not match signature: 1!=2 len({x}) != len({n,x}). "
        "Sent extra: {}. Missing but required: {n}.",
    )
    assert caller.refusal(helpers.predict_request(x=x, n=n, z=x)) == (
        INVALID,
        "input size does not match signature: 3!=2 len({n,x,z}) != len({n,x}). "
        "Sent extra: {z}. Missing but required: {}.",
    )
    # As many as the signature has, but not the same.
    code, message = caller.refusal(helpers.predict_request(x=x, z=x))
    assert code == INVALID
    assert message == (
        "Signature input alias: n(feed name: numbers_n:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {x,z}, or default "
        "input alias set: "
    )


@pytest.mark.parametrize(
    ("x", "n", "message"),
    [
        # The session numbers what it is fed by the names of the tensors: n, x.
        (np.float64([1]), np.int64([1]), "arg[1] to be float but double"),
        (np.float32([1]), np.int32([1]), "arg[0] to be int64 but int32"),
        (np.int32([1]), np.float32([1]), "arg[0] to be int64 but float"),
        (np.array([b"1"]), np.int64([1]), "arg[1] to be float but string"),
        (np.float16([1]), np.int64([1]), "arg[1] to be float but half"),
        (np.array([True]), np.int64([1]), "arg[1] to be float but bool"),
    ],
)
def test_does_not_cast(caller, helpers, x, n, message):
    request = helpers.predict_request(x=x, n=n)
    assert caller.refusal(request) == (INVALID, f"Expects {message} is provided")


def test_refuses_a_tensor_whose_content_does_not_fit_its_shape(caller, helpers):
    request = helpers.predict_request()
    request.inputs["x"].tensor_content += b"\0"
    assert caller.refusal(request) == (INVALID, "tensor parsing error: x")


def test_an_op_sees_to_the_shape(caller, helpers):
    request = helpers.predict_request("echo", text="scalar")
    response = caller.prediction.Predict(request)
    assert list(response.outputs["text"].string_val) == [b"scalar"]
    request = helpers.predict_request("", history=["a"], k=np.int32([1]))
    assert caller.refusal(request)[0] == INVALID


def test_output_filter(caller, helpers):
    request = helpers.predict_request("numbers")
    request.output_filter.append("n_plus_one")
    response = caller.prediction.Predict(request)
    assert set(response.outputs) == {"n_plus_one"}

    request.output_filter.append("n_plus_one")
    assert caller.refusal(request) == (
        INVALID,
        "duplicate output tensor alias: n_plus_one",
    )
    del request.output_filter[:]
    request.output_filter.append("zzz")
    assert caller.refusal(request) == (
        INVALID,
        "output tensor alias not found in signature: zzz Outputs expected to be in "
        "the set {n_plus_one,number,x_doubled,x_is_positive}.",
    )


def test_an_op_error_keeps_its_code_and_message(caller, helpers):
    code, message = caller.refusal(
        helpers.predict_request("", history=[["a"]], k=np.int32([0]))
    )
    assert code == INVALID
    assert "k must be at least 1. Received:] [0]" in message
    code, message = caller.refusal(
        helpers.predict_request("", history=[["zz"]], k=np.int32([1]))
    )
    assert code == INVALID
    assert "a history must have a known item. Received:" in message
    code, message = caller.refusal(helpers.predict_request("read", path="/no/where"))
    assert code == NOT_FOUND
    assert "/no/where" in message


def test_a_long_message_is_cut_and_arrives(caller, helpers):
    request = helpers.predict_request("read", path="/\N{SNOWMAN}" + 1000 * "/long")
    _, message = caller.refusal(request)
    assert "\N{SNOWMAN}" in message
    assert message.endswith("...TRUNCATED")
    assert len(message.encode()) <= 1024 + len("...TRUNCATED")


def test_messages_may_be_larger_than_four_mebibytes(caller, helpers):
    text = b"x" * (6 * 2**20)
    response = caller.prediction.Predict(helpers.predict_request("echo", text=[text]))
    assert response.outputs["text"].string_val[0] == text


def test_slow_requests_do_not_hold_up_a_fast_one(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    _, caller = start(tmp_path / "base", grpc_max_threads=8)
    slow = [
        caller.prediction.Predict.future(
            helpers.predict_request("slow", seconds=tf.constant(2.0, tf.float64))
        )
        for _ in range(7)
    ]
    caller.prediction.Predict(helpers.predict_request(), timeout=30)
    assert not any(call.done() for call in slow)
    for call in slow:
        assert call.result().outputs["number"].float_val[0] == 1.0


def test_an_overloaded_server_says_so(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    _, caller = start(tmp_path / "base", grpc_max_threads=2)
    slow = helpers.predict_request("slow", seconds=tf.constant(1.0, tf.float64))
    with ThreadPoolExecutor(4) as pool:
        calls = [caller.prediction.Predict.future(slow) for _ in range(4)]
        codes = list(pool.map(lambda call: call.code(), calls))
    assert codes.count(grpc.StatusCode.OK) == 2
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 2


def test_an_optional_input_has_its_default(start, publish, helpers, tmp_path):
    path = publish(tmp_path / "base", 1)
    add_default(path, "numbers", "n", np.int64([41]))
    _, caller = start(tmp_path / "base")
    x = np.float32([1])
    response = caller.prediction.Predict(helpers.predict_request(x=x))
    assert list(response.outputs["n_plus_one"].int64_val) == [42]
    response = caller.prediction.Predict(
        helpers.predict_request(x=x, n=np.int64([1, 2]))
    )
    assert list(response.outputs["n_plus_one"].int64_val) == [2, 3]
    assert caller.refusal(helpers.predict_request(n=np.int64([1]))) == (
        INVALID,
        "Signature input alias: x(feed name: numbers_x:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {n}, or default "
        "input alias set: n",
    )
    assert caller.refusal(helpers.predict_request(x=x, z=x)) == (
        INVALID,
        "Inputs contains invalid name. Used request inputs: x, request input: x,z",
    )


def add_default(path, signature, name, value):
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    definition = model.meta_graphs[0].signature_def[signature]
    definition.defaults[name].CopyFrom(tf.make_tensor_proto(value))
    file.write_bytes(model.SerializeToString())


def metadata_request(*fields, name="toy"):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def test_metadata_tells_the_signatures(caller):
    response = caller.prediction.GetModelMetadata(metadata_request("signature_def"))
    assert response.model_spec.name == "toy"
    assert response.model_spec.version.value == 7
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    history = signatures.signature_def["serving_default"].inputs["history"]
    assert history.dtype == types_pb2.DT_STRING
    assert [dim.size for dim in history.tensor_shape.dim] == [-1, -1]
    assert set(signatures.signature_def["echo"].outputs) == {"text"}


def test_metadata_refusals(caller):
    assert caller.refusal(metadata_request(), "GetModelMetadata") == (
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    assert caller.refusal(metadata_request("weights"), "GetModelMetadata") == (
        INVALID,
        "Metadata field weights is not supported",
    )
    request = metadata_request("signature_def", name="x")
    assert caller.refusal(request, "GetModelMetadata") == (
        NOT_FOUND,
        "Servable not found for request: Latest(x)",
    )
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    assert caller.refusal(request, "GetModelMetadata") == (INVALID, "Missing ModelSpec")


def status_refusal(caller, name=None, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    if name is not None:
        request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    with pytest.raises(grpc.RpcError) as caught:
        caller.models.GetModelStatus(request)
    return caught.value.code(), caught.value.details()


def test_status(caller):
    available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    assert caller.statuses() == {7: (available, 0, "")}
    assert status_refusal(caller) == (INVALID, "Missing ModelSpec")
    assert status_refusal(caller, "x") == (
        NOT_FOUND,
        "Could not find any versions of model x",
    )
    assert status_refusal(caller, "toy", 8) == (
        NOT_FOUND,
        "Could not find version 8 of model toy",
    )


def test_a_bug_is_answered_logged_and_survived(new_caller, helpers, caplog):
    class Broken(ServerCore):
        @contextmanager
        def use(self, spec):
            raise ZeroDivisionError("a bug")
            yield

    core = Broken(lambda name, version, path: None)
    server = GrpcServer(core, "127.0.0.1:0")
    caller = new_caller(server.port)
    predict = helpers.predict_request("echo", text=["a person's history"])
    # This one is answered in a thread.
    classify = classification_pb2.ClassificationRequest(model_spec=predict.model_spec)
    for request, method in ((predict, "Predict"), (classify, "Classify")):
        code, _ = caller.refusal(request, method)
        assert code == grpc.StatusCode.INTERNAL
    caller.channel.close()
    server.stop(0)
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    assert "a person's history" not in caplog.text
