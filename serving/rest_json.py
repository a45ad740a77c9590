"""JSON as TensorFlow Serving reads it, and its words for what is wrong with it."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc

from adaptiverec.serving.status import RequestError
from adaptiverec.serving.tensors import dtype_name

__all__ = [
    "dtype_text",
    "dump",
    "invalid",
    "is_number",
    "parse_object",
    "type_name",
]

# Of a value that a message quotes; it may be the whole request.
_MAX_QUOTED = 4096

# What the two parsers call a fault.
_FAULTS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": (
        "Missing a name for object member."
    ),
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}
_STRING_OR_INF = re.compile(r'"(?:[^"\\]|\\.)*"|\bInf\b', re.DOTALL)


def parse_object(body: bytes, *, keep_first: bool = True) -> dict[str, Any]:
    """Parses the body of a request. ``NaN``, ``Inf`` and ``Infinity`` are numbers.

    Strings that are not UTF-8 keep their bytes, as surrogates of ``surrogateescape``.

    Args:
        body: The whole body.
        keep_first: Which of several members of one name counts: the first, or the last.

    Returns:
        The object that it must be.

    Raises:
        RequestError: INVALID_ARGUMENT, it is no JSON, or no object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    text = body.decode(errors="surrogateescape").removeprefix("\ufeff")
    if "Inf" in text:
        text = _STRING_OR_INF.sub(
            lambda match: "Infinity" if match[0] == "Inf" else match[0], text
        )
    try:
        value = json.loads(
            text, object_pairs_hook=_first_of_each if keep_first else None
        )
    except json.JSONDecodeError as error:
        fault = _FAULTS.get(error.msg)
        if fault is None:
            # A comma is missing, or the end of what it would be in.
            bracket, kind = _enclosing(text, error.pos)
            fault = f"Missing a comma or {bracket} after {kind}."
        raise invalid(f"JSON Parse error: {fault} at offset: {error.pos}") from None
    except RecursionError:
        raise invalid("JSON Parse error: The document is nested too deeply") from None
    except ValueError:
        # An integer of thousands of digits.
        raise invalid(
            "JSON Parse error: Number too big to be stored in double."
        ) from None
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {dump(value)} Is not object")
    return value


def dump(value: Any) -> str:
    """The value as messages quote it; no longer than a message should be."""
    try:
        text = json.dumps(value, indent=4, ensure_ascii=False)
    except RecursionError:
        return "..."
    if len(text) > _MAX_QUOTED:
        text = text[:_MAX_QUOTED] + "..."
    return text


def type_name(value: Any) -> str:
    """The JSON type of a value: Null, False, True, Object, Array, String or Number."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def dtype_text(dtype: int) -> str:
    """What messages call a ``tensorflow.DataType``, such as ``"float"``."""
    return dtype_name(dtype).removeprefix("DT_").lower()


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; to Python, True is one as well."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def invalid(message: str) -> RequestError:
    """INVALID_ARGUMENT with a message."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _first_of_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(members)
    if len(result) < len(members):
        for name, value in reversed(members):
            result[name] = value
    return result


def _enclosing(text: str, position: int) -> tuple[str, str]:
    """What is open at a place: how it is closed, and what its parts are called."""
    opened = []
    for match in re.finditer(
        r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text[:position], flags=re.DOTALL
    ):
        if match[0] in "[{":
            opened.append(match[0])
        elif match[0] in "]}" and opened:
            opened.pop()
    if opened and opened[-1] == "[":
        return "]", "an array element"
    return "}", "an object member"
