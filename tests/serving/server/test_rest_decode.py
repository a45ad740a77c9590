"""Requests in JSON: what TensorFlow Serving takes, and what it says of the rest."""

from __future__ import annotations

import json
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import input_pb2

from adaptiverec.serving.rest_decode import decode_signature_name, decode_tensors
from adaptiverec.serving.rest_examples import decode_examples
from adaptiverec.serving.rest_json import parse_object
from adaptiverec.serving.status import RequestError


def infos(**dtypes: tf.DType) -> dict[str, meta_graph_pb2.TensorInfo]:
    return {
        name: meta_graph_pb2.TensorInfo(name=f"{name}:0", dtype=dtype.as_datatype_enum)
        for name, dtype in dtypes.items()
    }


def decode(body: Any, **dtypes: tf.DType) -> dict[str, np.ndarray]:
    text = body if isinstance(body, str) else json.dumps(body)
    tensors, _ = decode_tensors(parse_object(text.encode()), infos(**dtypes))
    return tensors


def refusal(body: Any, **dtypes: tf.DType) -> str:
    with pytest.raises(RequestError) as caught:
        decode(body, **dtypes)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.message


class TestRows:
    def test_rows_of_named_inputs_are_stacked(self):
        tensors = decode(
            {
                "instances": [
                    {"history": ["a", "b"], "k": 3},
                    {"k": 4, "history": ["c", ""]},
                ]
            },
            history=tf.string,
            k=tf.int32,
        )
        assert tensors["history"].tolist() == [[b"a", b"b"], [b"c", b""]]
        assert tensors["history"].dtype == object
        assert tensors["k"].tolist() == [3, 4]
        assert tensors["k"].dtype == np.int32

    def test_values_alone_are_for_the_only_input(self):
        assert decode({"instances": [1, 2.5]}, x=tf.float32)["x"].tolist() == [1, 2.5]
        tensors = decode({"instances": [[[1], [2]], [[3], [4]]]}, x=tf.int64)
        assert tensors["x"].shape == (2, 2, 1)
        assert tensors["x"].dtype == np.int64

    def test_bytes_are_base64(self):
        for rows in ([{"b64": "/wA="}], [{"b64": "/wA"}], [{"b64": " /w\nA="}]):
            assert decode({"instances": rows}, x=tf.string)["x"].tolist() == [b"\xff\0"]
        tensors = decode({"instances": [{"x": {"b64": "YQ=="}}]}, x=tf.string)
        assert tensors["x"].tolist() == [b"a"]

    def test_lists_may_be_empty(self):
        assert decode({"instances": [[], []]}, x=tf.float32)["x"].shape == (2, 0)

    @pytest.mark.parametrize(
        ("instances", "message"),
        [
            (
                [1, 2],
                "instances is a plain list, but expecting list of objects as multiple "
                "input tensors required as per tensorinfo_map",
            ),
            (
                [{"x": 1, "y": 2}, 3],
                "Expecting object but got list at item 1 of input list",
            ),
            (
                [{"x": 1, "z": 2}],
                "Failed to process element: 0 key: z of 'instances' list. Error: "
                "INVALID_ARGUMENT: JSON object: does not have named input: z",
            ),
            (
                [{"x": 1, "y": 2}, {"x": 1}],
                "Failed to process element: 1 of 'instances' list. JSON object: "
                '{\n    "x": 1\n} must only have keys: x,y',
            ),
            (
                [{"x": 1, "y": 2}, {"x": [1], "y": 2}],
                "Failed to process element: 1 key: x of 'instances' list. Error: "
                "INVALID_ARGUMENT: Expecting shape [] but got: [1]",
            ),
            (
                [{"x": [1, 2], "y": 2}, {"x": [1], "y": 2}],
                "Failed to process element: 1 key: x of 'instances' list. Error: "
                "INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
            ),
        ],
    )
    def test_rows_must_be_alike_and_of_the_signature(self, instances, message):
        body = {"instances": instances}
        assert refusal(body, x=tf.int32, y=tf.int32) == message

    def test_an_object_among_values_is_named(self):
        message = refusal({"instances": [1, {"x": 2}]}, x=tf.int32)
        assert message == (
            "Expecting value/list but got object at item 1 of input list"
        )


class TestColumns:
    def test_inputs_have_any_shape(self):
        tensors = decode(
            {"inputs": {"x": [[1, 2]], "y": 3, "more": None}}, x=tf.int32, y=tf.float64
        )
        assert tensors["x"].tolist() == [[1, 2]]
        assert tensors["y"].shape == ()
        assert tensors["y"].dtype == np.float64
        assert set(tensors) == {"x", "y"}

    def test_a_value_alone_is_for_the_only_input(self):
        assert decode({"inputs": [1, 2]}, x=tf.int32)["x"].tolist() == [1, 2]
        assert decode({"inputs": {"b64": "YQ=="}}, x=tf.string)["x"].item() == b"a"

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (
                [1],
                "inputs is a plain value/list, but expecting an object as multiple input "
                "tensors required as per tensorinfo_map",
            ),
            ({"x": [1]}, "Missing named input: y in 'inputs' object."),
            (
                {"x": [[1, 2], [3]], "y": 1},
                "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
            ),
            (
                {"x": [[1], 2], "y": 1},
                "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at "
                "level: 2",
            ),
            (
                {"x": [1, [2]], "y": 1},
                "Encountered list at unexpected level: 1 expected < 1",
            ),
        ],
    )
    def test_what_is_missing_or_uneven_is_refused(self, inputs, message):
        assert refusal({"inputs": inputs}, x=tf.int32, y=tf.int32) == message


def wrong_type(value: str, kind: str, dtype: str) -> str:
    return f"JSON Value: {value} Type: {kind} is not of expected type: {dtype}"


class TestTypes:
    @pytest.mark.parametrize(
        ("value", "dtype", "message"),
        [
            ("1.0", tf.int32, wrong_type("1.0", "Number", "int32")),
            ("2147483648", tf.int32, wrong_type("2147483648", "Number", "int32")),
            ("true", tf.int32, wrong_type("true", "True", "int32")),
            ('"1"', tf.int64, wrong_type('"1"', "String", "int64")),
            ("9223372036854775808", tf.int64, "Number is not of expected type: int64"),
            ("-1", tf.uint32, wrong_type("-1", "Number", "uint32")),
            ("18446744073709551616", tf.uint64, "is not of expected type: uint64"),
            ("1", tf.bool, wrong_type("1", "Number", "bool")),
            ("null", tf.string, wrong_type("null", "Null", "string")),
            ("1", tf.string, wrong_type("1", "Number", "string")),
            ('"1"', tf.float32, wrong_type('"1"', "String", "float")),
            ("false", tf.float32, wrong_type("false", "False", "float")),
            ('{"a": 1}', tf.float32, "Type: Object is not of expected type: float"),
            (
                '{"a": "YQ=="}',
                tf.string,
                'JSON Value: {\n    "a": "YQ=="\n} not formatted correctly for base64 data',
            ),
            ('{"b64": "Y"}', tf.string, "Unable to base64 decode"),
            ('{"b64": "YQ!="}', tf.string, "Unable to base64 decode"),
            (
                "16777216",
                tf.float32,
                "Cannot convert JSON value: 16777216 to float without loss of precision.",
            ),
            ("3.5e38", tf.float32, "to float without loss of precision."),
            (
                "9007199254740992",
                tf.float64,
                "to double without loss of precision.",
            ),
        ],
    )
    def test_nothing_is_cast(self, value, dtype, message):
        assert refusal(f'{{"inputs": [{value}]}}', x=dtype).endswith(message)

    @pytest.mark.parametrize(
        ("value", "dtype", "expected"),
        [
            ("16777215", tf.float32, 16777215.0),
            ("3.4e38", tf.float32, np.float32(3.4e38)),
            ("1e-50", tf.float32, 0.0),
            ("-0.0", tf.float64, -0.0),
            ("36893488147419103232", tf.float64, 2.0**65),
            ("-9223372036854775808", tf.int64, -(2**63)),
            ("18446744073709551615", tf.uint64, 2**64 - 1),
            ("true", tf.bool, True),
            # Cut to the bits of the type, as there.
            ("257", tf.uint8, 1),
            ("-129", tf.int8, 127),
        ],
    )
    def test_what_fits_is_taken(self, value, dtype, expected):
        array = decode(f'{{"inputs": [{value}]}}', x=dtype)["x"]
        assert array.dtype == dtype.as_numpy_dtype
        assert array.tolist() == [expected]

    def test_numbers_need_not_be_finite(self):
        text = '{"inputs": [NaN, Infinity, -Infinity, Inf, -Inf], "a": "Inf Infinity"}'
        array = decode(text, x=tf.float32)["x"]
        assert np.isnan(array[0])
        assert array[1:].tolist() == [np.inf, -np.inf, np.inf, -np.inf]
        assert parse_object(text.encode())["a"] == "Inf Infinity"

    def test_types_without_a_form_in_json_are_unimplemented(self):
        with pytest.raises(RequestError) as caught:
            decode({"inputs": [1]}, x=tf.float16)
        assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
        assert caught.value.message == "Conversion of JSON Value: 1 to type: half"

    def test_of_two_members_of_one_name_the_first_counts(self):
        body = '{"inputs": {"x": [1], "x": [2]}, "inputs": {"x": [3]}}'
        assert decode(body, x=tf.int32)["x"].tolist() == [1]
        # But not in examples.
        last = parse_object(b'{"x": 1, "y": 2, "x": 3}', keep_first=False)
        assert last == {"x": 3, "y": 2}

    def test_strings_keep_bytes_that_are_not_utf_8(self):
        tensors, _ = decode_tensors(
            parse_object(b'{"inputs": ["\xff", "\xc3\xbc", "\\u00fc"]}'),
            infos(x=tf.string),
        )
        assert tensors["x"].tolist() == [b"\xff", b"\xc3\xbc", b"\xc3\xbc"]
        assert "surrogate pair" in refusal('{"inputs": ["\\ud800"]}', x=tf.string)


class TestJson:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("", "The document is empty"),
            ("{", "Missing a name for object member. at offset: 1"),
            ("nope", "Invalid value. at offset: 0"),
            ('{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
            (
                '{"a": 1 "b"}',
                "Missing a comma or } after an object member. at offset: 8",
            ),
            (
                '{"a": [1 "}"',
                "Missing a comma or ] after an array element. at offset: 9",
            ),
            ('{"a": "x', "Missing a closing quotation mark in string. at offset: 6"),
            ('{"a": "\\x"}', "Invalid escape character in string. at offset: 7"),
            ("{} {}", "The document root must not be followed by other values. at"),
            ("[" * 100_000, "nested too deeply"),
            (f'{{"a": 1{"0" * 10_000}}}', "Number too big to be stored in double."),
        ],
    )
    def test_broken_json_is_located(self, body, message):
        assert refusal(body).startswith("JSON Parse error: ")
        assert message in refusal(body)

    def test_the_document_must_be_an_object(self):
        assert refusal("[1]") == "JSON Value: [\n    1\n] Is not object"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({}, "Missing 'inputs' or 'instances' key"),
            ({"instances": []}, "No values in 'instances' array"),
            ({"instances": 1}, "Excepting 'instances' to be an list/array"),
            (
                {"instances": [1], "inputs": [1]},
                "Not formatted correctly expecting only one of 'inputs' or 'instances' "
                "keys to exist ",
            ),
        ],
    )
    def test_there_must_be_rows_or_columns(self, body, message):
        assert refusal(body, x=tf.int32).endswith(message)

    def test_the_signature_is_named_by_a_string(self):
        assert decode_signature_name({}) == ""
        assert decode_signature_name({"signature_name": "score"}) == "score"
        with pytest.raises(RequestError, match="key must be a string value"):
            decode_signature_name({"signature_name": 1})

    def test_a_long_value_is_not_sent_back_whole(self):
        assert len(refusal({"instances": "x" * 100_000}, x=tf.int32)) < 5000

    def test_lists_in_lists_without_end_are_refused(self):
        assert "unexpected level" in refusal(
            '{"inputs": ' + "[" * 200 + "]" * 200 + "}", x=tf.int32
        )

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    def test_whatever_comes_is_an_object_or_a_refusal(self, body):
        try:
            result: Any = parse_object(body)
        except RequestError as error:
            result = error.code
        assert isinstance(result, dict) or result is grpc.StatusCode.INVALID_ARGUMENT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "y", "b64", "z"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    value=json_values,
    key=st.sampled_from(["instances", "inputs"]),
    dtype=st.sampled_from(
        [tf.int32, tf.uint8, tf.float32, tf.string, tf.bool, tf.half]
    ),
)
def test_whatever_values_come_are_tensors_or_a_refusal(value, key, dtype):
    try:
        tensors, _ = decode_tensors({key: value}, infos(x=dtype, y=tf.int64))
        code = grpc.StatusCode.OK
    except RequestError as error:
        tensors, code = {}, error.code
    assert all(isinstance(array, np.ndarray) for array in tensors.values())
    assert code.name in ("OK", "INVALID_ARGUMENT", "UNIMPLEMENTED")


class TestExamples:
    def test_features_have_the_kind_of_their_values(self):
        result = decode_examples(
            {
                "examples": [
                    {
                        "text": "a",
                        "many": ["a", {"b64": "/w=="}],
                        "number": [1, True, -2],
                        "real": 1.5,
                        "none": [],
                    },
                    {},
                ]
            }
        )
        expected = text_format.Parse(
            r"""
            example_list {
              examples {
                features {
                  feature { key: "text" value { bytes_list { value: "a" } } }
                  feature { key: "many" value { bytes_list { value: ["a", "\377"] } } }
                  feature { key: "number" value { int64_list { value: [1, 1, -2] } } }
                  feature { key: "real" value { float_list { value: 1.5 } } }
                  feature { key: "none" value { } }
                }
              }
              examples { }
            }
            """,
            input_pb2.Input(),
        )
        first = result.example_list.examples[0].features.feature
        assert dict(first) == dict(expected.example_list.examples[0].features.feature)
        assert len(result.example_list.examples) == 2

    def test_a_context_stands_before_all(self):
        result = decode_examples({"context": {"a": 1}, "examples": [{"b": 2}]})
        both = result.example_list_with_context
        assert both.context.features.feature["a"].int64_list.value == [1]
        assert both.examples[0].features.feature["b"].int64_list.value == [2]
        assert not result.HasField("example_list")

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (
                {},
                "When method is classify, key 'examples' is expected and was not found",
            ),
            ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
            ({"examples": []}, "'examples' value is an empty array"),
            ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
            ({"examples": [{"a": None}]}, "unexpected JSON type: Null"),
            ({"examples": [{"a": [[1]]}]}, "unexpected JSON type: Array"),
            ({"examples": [{"a": {"c": 1}}]}, "unexpected JSON type: Object"),
            (
                {"examples": [{"a": ["x", 1]}]},
                "Unexpected element type in feature: a expecting type: bytes",
            ),
            ({"examples": [{"a": [1, 1.5]}]}, "in feature: a expecting type: int64"),
            (
                {"examples": [{"a": 2**63}]},
                "Feature: a has uint64 element. Only int64 is supported.",
            ),
            ({"examples": [{"a": 1e39}]}, "to float without loss of precision."),
        ],
    )
    def test_what_is_no_example_is_refused(self, document, message):
        with pytest.raises(RequestError) as caught:
            decode_examples(document)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert message in caught.value.message
