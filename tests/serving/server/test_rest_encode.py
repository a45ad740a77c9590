"""Answers in JSON, to the letter."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.serving.rest_encode import (
    encode_classifications,
    encode_columns,
    encode_error,
    encode_regressions,
    encode_rows,
)
from adaptiverec.serving.status import RequestError


def strings(*values: object) -> np.ndarray:
    return np.array(values, dtype=object)


def test_rows_of_one_output_are_values():
    outputs = {"y": np.array([2.5, 3.0, 4.5], np.float32)}
    assert encode_rows(outputs) == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
    outputs = {"y": np.array([[1, 2], [3, 4]])}
    assert encode_rows(outputs) == b'{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'


def test_rows_of_several_outputs_are_objects():
    outputs = {
        "items": strings([b"a", b"b"], [b"c", b""]),
        "scores": np.array([[0.5, 0.25], [1, 0]], np.float32),
        "fallback": np.array([False, True]),
    }
    text = encode_rows(outputs).decode()
    assert json.loads(text) == {
        "predictions": [
            {"items": ["a", "b"], "scores": [0.5, 0.25], "fallback": False},
            {"items": ["c", ""], "scores": [1.0, 0.0], "fallback": True},
        ]
    }
    assert text.startswith(
        '{\n    "predictions": [\n        {\n            "fallback": false,\n'
        '            "items": ["a", "b"],\n'
    )


def test_columns_have_the_shape_of_the_tensors():
    text = encode_columns({"y": np.array([[1, 2]]), "x": np.array(True)}).decode()
    assert text == (
        '{\n    "outputs": {\n        "x": true,\n        "y": [\n            [\n'
        "                1,\n                2\n            ]\n        ]\n    }\n}"
    )
    assert encode_columns({"y": np.zeros((0, 2))}) == b'{\n    "outputs": []\n}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.2, "0.2"),
        (1 / 3, "0.333333343"),
        (0.669074059, "0.669074059"),
        (1.0, "1.0"),
        (100000.0, "100000.0"),
        (9000000.0, "9e+06"),
        (123456789.0, "123456792.0"),
        (3e-05, "3e-05"),
        (3.40282347e38, "3.40282347e+38"),
        (1.401298464324817e-45, "1.4013e-45"),
        (-0.0, "-0.0"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_floats_are_written_as_there(value, text):
    outputs = {"y": np.array([value], np.float32)}
    assert encode_rows(outputs) == f'{{\n    "predictions": [{text}\n    ]\n}}'.encode()


@given(st.floats(width=32))
def test_floats_come_back_the_same(value):
    text = encode_rows({"y": np.array([value], np.float32)})
    [back] = json.loads(text)["predictions"]
    assert np.float32(back).tobytes() == np.float32(value).tobytes() or np.isnan(value)


@given(st.floats())
def test_doubles_come_back_the_same(value):
    [back] = json.loads(encode_columns({"y": np.array([value])}))["outputs"]
    assert back == value or np.isnan(value)


def test_outputs_named_bytes_are_base64():
    outputs = {"image_bytes": strings(b"\xff\0"), "text": strings(b"\xc3\xbc")}
    assert json.loads(encode_rows(outputs)) == {
        "predictions": [{"image_bytes": {"b64": "/wA="}, "text": "ü"}]
    }


def test_other_strings_are_written_as_they_are():
    text = encode_columns({"x": strings(b'q"\\\n\x01', b"\xff")})
    assert rb'"q\"\\\n\u0001"' in text
    assert b'"\xff"' in text


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1)}, "Tensor name: y has no shape information "),
        ({"y": np.zeros(0)}, "Tensor name: y has invalid batch size: 0"),
        (
            {"x": np.zeros(2), "y": np.zeros(3)},
            "Tensor name: y has inconsistent batch size: 3 expecting: 2",
        ),
        (
            {"y": np.zeros(1, np.float16)},
            "Failed to write JSON value for tensor type: half",
        ),
        (
            {"y": np.zeros(1, np.complex64)},
            "Failed to write JSON value for tensor type: complex64",
        ),
    ],
)
def test_what_has_no_rows_or_no_form_is_refused(outputs, message):
    with pytest.raises(RequestError) as caught:
        encode_rows(outputs)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == message


def test_classes_and_regressions():
    results = encode_classifications([[("a", 0.5), ("b", 0.25)], [("", 0.0)]])
    assert results == (
        b'{\n    "results": [[["a", 0.5], ["b", 0.25]], [["", 0.0]]\n    ]\n}'
    )
    assert encode_regressions([1.5, 2]) == b'{\n    "results": [1.5, 2.0]\n}'
    for encode in (encode_classifications, encode_regressions):
        with pytest.raises(RequestError, match="Cannot convert empty"):
            encode([])


def test_errors_may_have_any_text():
    text = encode_error('no "\n\udcff \ud800')
    assert json.loads(text.decode(errors="replace"))["error"].startswith('no "\n')
