"""Our messages are TensorFlow Serving's, byte for byte and field for field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from adaptiverec.serving import predict_pb2 as wire

PAIRS = [
    (wire.PredictRequest, predict_pb2.PredictRequest),
    (wire.PredictResponse, predict_pb2.PredictResponse),
    (wire.ModelSpec, model_pb2.ModelSpec),
    (wire.TensorProto, tensor_pb2.TensorProto),
    (wire.TensorShapeProto, tensor_shape_pb2.TensorShapeProto),
]

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_every_field_has_their_number_and_type(ours, theirs):
    def described(fields, descriptor):
        return {
            field.name: (field.number, field.type, field.is_repeated)
            for field in descriptor.fields
            if field.name in fields
        }

    names = {field.name for field in ours.DESCRIPTOR.fields}
    assert names
    assert described(names, ours.DESCRIPTOR) == described(names, theirs.DESCRIPTOR)


def test_every_type_has_their_value():
    assert (
        dict(wire.DataType.items()).items() <= dict(types_pb2.DataType.items()).items()
    )


TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([0, 1, 3, 7, 9]),
        "dims": st.lists(INT64, max_size=3),
        "tensor_content": st.binary(max_size=8),
        "float_val": st.lists(st.floats(width=32, allow_nan=False), max_size=3),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "string_val": st.lists(st.binary(max_size=4), max_size=3),
    }
)
SPECS = st.fixed_dictionaries(
    {
        "name": st.text(max_size=5),
        "signature_name": st.text(max_size=5),
        "version": st.none() | INT64,
        "version_label": st.text(max_size=5),
    }
)


def fill_tensor(tensor, values):
    values = dict(values)
    for size in values.pop("dims"):
        tensor.tensor_shape.dim.add(size=size)
    for name, value in values.items():
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)


def fill_spec(spec, values):
    spec.name = values["name"]
    spec.signature_name = values["signature_name"]
    if values["version"] is None:
        spec.version_label = values["version_label"]
    else:
        spec.version.value = values["version"]


def filled(message, spec, tensors, map_field):
    fill_spec(message.model_spec, spec)
    for name, values in tensors.items():
        fill_tensor(getattr(message, map_field)[name], values)
    return message


@given(
    SPECS,
    st.dictionaries(st.text(max_size=4), TENSORS, max_size=3),
    st.lists(st.text(max_size=4), max_size=3),
)
def test_requests_go_both_ways(spec, tensors, output_filter):
    ours = filled(wire.PredictRequest(), spec, tensors, "inputs")
    theirs = filled(predict_pb2.PredictRequest(), spec, tensors, "inputs")
    ours.output_filter.extend(output_filter)
    theirs.output_filter.extend(output_filter)
    assert wire.PredictRequest.FromString(theirs.SerializeToString()) == ours
    assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == theirs
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


@given(SPECS, st.dictionaries(st.text(max_size=4), TENSORS, max_size=3))
def test_responses_go_both_ways(spec, tensors):
    ours = filled(wire.PredictResponse(), spec, tensors, "outputs")
    theirs = filled(predict_pb2.PredictResponse(), spec, tensors, "outputs")
    assert wire.PredictResponse.FromString(theirs.SerializeToString()) == ours
    assert predict_pb2.PredictResponse.FromString(ours.SerializeToString()) == theirs


def test_fields_that_the_client_does_not_know_are_skipped():
    theirs = predict_pb2.PredictRequest(client_id=b"someone")
    theirs.model_spec.name = "shop"
    theirs.inputs["x"].int64_val.append(3)
    ours = wire.PredictRequest.FromString(theirs.SerializeToString())
    assert ours.model_spec.name == "shop"
    assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == theirs
