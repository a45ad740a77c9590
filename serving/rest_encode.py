"""The bodies of REST answers: from tensors to JSON, written as TensorFlow Serving writes it.

Floats have as many digits as they need, and always a point or an exponent; NaN and Infinity
are written so, though they are not JSON. The values of an output whose name ends in
``_bytes`` are base64.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.serving.rest_json import dtype_text, invalid

__all__ = [
    "encode_classifications",
    "encode_columns",
    "encode_error",
    "encode_regressions",
    "encode_rows",
]

_INDENT = "    "
_SINGLE = struct.Struct("<f")


def encode_rows(outputs: Mapping[str, np.ndarray]) -> bytes:
    """Writes outputs row by row: ``{"predictions": [...]}``.

    Args:
        outputs: The tensors by name, ``[rows, ...]``.

    Returns:
        The JSON; each row is an object, or a value where there is one output only.

    Raises:
        RequestError: INVALID_ARGUMENT, they have not equally many rows, or a type that
            JSON has not.
    """
    rows = _common_rows(outputs)
    writers = {name: _writer(name, outputs[name]) for name in sorted(outputs)}
    lists = {name: outputs[name].tolist() for name in writers}
    if len(outputs) == 1:
        [(name, write)] = writers.items()
        body = ", ".join(_on_one_line(value, write) for value in lists[name])
    else:
        body = ",".join(
            f"\n{_INDENT * 2}{{\n"
            + ",\n".join(
                f"{_INDENT * 3}{_quoted(name)}: {_on_one_line(lists[name][row], write)}"
                for name, write in writers.items()
            )
            + f"\n{_INDENT * 2}}}"
            for row in range(rows)
        )
    return _finished(f'{{\n{_INDENT}"predictions": [{body}\n{_INDENT}]\n}}')


def encode_columns(outputs: Mapping[str, np.ndarray]) -> bytes:
    """Writes outputs one by one: ``{"outputs": {...}}``.

    Args:
        outputs: The tensors by name, of any shape.

    Returns:
        The JSON; only the values where there is one output only.

    Raises:
        RequestError: INVALID_ARGUMENT, an output has a type that JSON has not.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    written = {
        name: _indented(
            outputs[name].tolist(),
            _writer(name, outputs[name]),
            depth=1 if len(outputs) == 1 else 2,
        )
        for name in sorted(outputs)
    }
    if len(outputs) == 1:
        [body] = written.values()
    else:
        members = ",\n".join(
            f"{_INDENT * 2}{_quoted(name)}: {text}" for name, text in written.items()
        )
        body = f"{{\n{members}\n{_INDENT}}}"
    return _finished(f'{{\n{_INDENT}"outputs": {body}\n}}')


def encode_classifications(results: Sequence[Sequence[tuple[str, float]]]) -> bytes:
    """Writes labels and scores of each example: ``{"results": [[[label, score]]]}``.

    Raises:
        RequestError: INVALID_ARGUMENT, there is none.
    """
    if not results:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    body = ", ".join(
        "["
        + ", ".join(f"[{_quoted(label)}, {_single(score)}]" for label, score in classes)
        + "]"
        for classes in results
    )
    return _finished(f'{{\n{_INDENT}"results": [{body}\n{_INDENT}]\n}}')


def encode_regressions(values: Sequence[float]) -> bytes:
    """Writes the value of each example: ``{"results": [value]}``.

    Raises:
        RequestError: INVALID_ARGUMENT, there is none.
    """
    if not values:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    body = ", ".join(_single(value) for value in values)
    return _finished(f'{{\n{_INDENT}"results": [{body}]\n}}')


def encode_error(message: str) -> bytes:
    """Writes why there is no answer: ``{"error": "..."}``."""
    return _finished(f'{{\n{_INDENT}"error": {_quoted(message)}\n}}')


def _common_rows(outputs: Mapping[str, np.ndarray]) -> int:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    rows = 0
    for name in sorted(outputs):
        shape = outputs[name].shape
        if not shape:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if shape[0] < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {shape[0]}")
        if rows not in (0, shape[0]):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: "
                f"{rows}"
            )
        rows = shape[0]
    return rows


def _writer(name: str, value: np.ndarray) -> Callable[[Any], str]:
    """What writes one value of a tensor."""
    dtype = tf.dtypes.as_dtype(value.dtype)
    if dtype == tf.string:
        return _base64 if name.endswith("_bytes") else _string
    if dtype == tf.float32:
        return _single
    if dtype == tf.float64:
        return _double
    if dtype == tf.bool:
        return lambda flag: "true" if flag else "false"
    if dtype.is_integer and dtype != tf.uint16 and not dtype.is_quantized:
        return str
    raise invalid(
        f"Failed to write JSON value for tensor type: {dtype_text(dtype.as_datatype_enum)}"
    )


def _on_one_line(value: Any, write: Callable[[Any], str]) -> str:
    if not isinstance(value, list):
        return write(value)
    return "[" + ", ".join(_on_one_line(element, write) for element in value) + "]"


def _indented(value: Any, write: Callable[[Any], str], *, depth: int) -> str:
    if not isinstance(value, list):
        return write(value)
    if not value:
        return "[]"
    inner = _INDENT * (depth + 1)
    elements = ",\n".join(
        inner + _indented(element, write, depth=depth + 1) for element in value
    )
    return f"[\n{elements}\n{_INDENT * depth}]"


def _single(value: float) -> str:
    if not math.isfinite(value):
        return _not_finite(value)
    text = f"{value:g}"
    try:
        same = _SINGLE.unpack(_SINGLE.pack(float(text)))[0] == value
    except OverflowError:
        # Six digits of the largest floats are more than a float can be.
        same = False
    return _with_point(text if same else f"{value:.9g}")


def _double(value: float) -> str:
    if not math.isfinite(value):
        return _not_finite(value)
    text = f"{value:g}"
    return _with_point(text if float(text) == value else f"{value:.17g}")


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _with_point(text: str) -> str:
    """So that a reader does not take a whole float for an integer."""
    return text if "." in text or "e" in text else f"{text}.0"


def _string(value: bytes) -> str:
    return _quoted(value.decode(errors="surrogateescape"))


def _base64(value: bytes) -> str:
    return f'{{"b64": "{base64.b64encode(value).decode()}"}}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _finished(text: str) -> bytes:
    try:
        # Strings that are not UTF-8 get their bytes back.
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        # Half a surrogate pair, quoted in an error.
        return text.encode(errors="replace")
