"""One value of a tensor or feature, from JSON; nothing is cast.

1.5 is no int32, and 16777217 is no float, which could not hold it.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from adaptiverec.serving.rest_json import (
    dtype_text,
    dump,
    invalid,
    is_number,
    type_name,
)
from adaptiverec.serving.status import RequestError

__all__ = ["decode_bytes", "decode_float", "decode_string", "is_bytes", "value_decoder"]

_FLOAT_MAX = float(np.finfo(np.float32).max)
_SPACE = re.compile(r"[ \t\n\v\f\r]")

# The range of each type of integer. The small ones are read as int32 and cut, as there.
_INTEGERS = {
    types_pb2.DT_INT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_UINT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT16: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT32: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}


def is_bytes(value: Any) -> bool:
    """Whether a value is an object that stands for bytes: ``{"b64": "..."}``."""
    return (
        isinstance(value, dict)
        and value.keys() == {"b64"}
        and isinstance(value["b64"], str)
    )


def value_decoder(dtype: int) -> Callable[[Any], Any]:
    """What reads one value of a type, given as ``tensorflow.DataType``.

    It raises RequestError: INVALID_ARGUMENT, the value is not of the type; UNIMPLEMENTED,
    the type has no form in JSON.
    """
    name = dtype_text(dtype)

    def type_error(value: Any) -> RequestError:
        return invalid(
            f"JSON Value: {dump(value)} Type: {type_name(value)} is not of expected "
            f"type: {name}"
        )

    def boolean(value: Any) -> bool:
        if not isinstance(value, bool):
            raise type_error(value)
        return value

    def string(value: Any) -> bytes:
        if isinstance(value, dict):
            return decode_bytes(value)
        if not isinstance(value, str):
            raise type_error(value)
        return decode_string(value)

    def decimal(value: Any) -> float:
        if not is_number(value):
            raise type_error(value)
        return decode_float(value, single=dtype == types_pb2.DT_FLOAT)

    def integer(value: Any) -> int:
        lowest, highest = _INTEGERS[dtype]
        if type(value) is not int or not lowest <= value <= highest:
            raise type_error(value)
        return value

    def unknown(value: Any) -> Any:
        if isinstance(value, dict):
            raise type_error(value)
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {dump(value)} to type: {name}",
        )

    if dtype in _INTEGERS:
        return integer
    converters: dict[int, Callable[[Any], Any]] = {
        types_pb2.DT_BOOL: boolean,
        types_pb2.DT_STRING: string,
        types_pb2.DT_FLOAT: decimal,
        types_pb2.DT_DOUBLE: decimal,
    }
    return converters.get(dtype, unknown)


def decode_float(value: float, *, single: bool) -> float:
    """A number as a float or double, which must hold it.

    Raises:
        RequestError: INVALID_ARGUMENT, it does not.
    """
    largest_integer = 2**24 - 1 if single else 2**53 - 1
    # Integers beyond 64 bits are doubles to the parser there.
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        fits = abs(value) <= largest_integer
    else:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        fits = not single or not math.isfinite(value) or abs(value) <= _FLOAT_MAX
    if not fits:
        kind = "float" if single else "double"
        raise invalid(
            f"Cannot convert JSON value: {dump(value)} to {kind} without loss of precision."
        )
    return value


def decode_string(text: str) -> bytes:
    """The bytes of a JSON string.

    Raises:
        RequestError: INVALID_ARGUMENT, it has half a surrogate pair.
    """
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise invalid(
            "JSON Parse error: The surrogate pair in string is invalid."
        ) from None


def decode_bytes(value: dict[str, Any]) -> bytes:
    """The bytes that ``{"b64": "..."}`` stands for.

    Raises:
        RequestError: INVALID_ARGUMENT, it is another object, or no base64.
    """
    if not is_bytes(value):
        raise invalid(
            f"JSON Value: {dump(value)} not formatted correctly for base64 data"
        )
    # Padding may be left out, and there may be spaces.
    text = _SPACE.sub("", value["b64"]).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None
