"""The tensors of Predict requests, from JSON, of the types of the signature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from adaptiverec.serving.rest_json import dump, invalid
from adaptiverec.serving.rest_values import is_bytes, value_decoder
from adaptiverec.serving.status import RequestError

__all__ = ["decode_signature_name", "decode_tensors"]

# NumPy's limit; TensorFlow's is 254, which nobody has seen.
_MAX_RANK = 64
# Types whose values are sent as int32, and cut.
_NARROW = (types_pb2.DT_UINT8, types_pb2.DT_INT16, types_pb2.DT_INT8)


def decode_signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names, or "".

    Raises:
        RequestError: INVALID_ARGUMENT, the name is no string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {dump(document)} not formatted correctly. 'signature_name' key "
            "must be a string value."
        )
    return name


def decode_tensors(
    document: Mapping[str, Any], inputs: Mapping[str, meta_graph_pb2.TensorInfo]
) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the tensors of a Predict request, in row format or in columns.

    Args:
        document: The request.
        inputs: What the signature takes, by name.

    Returns:
        The tensors by name, and whether they came as rows (``instances``).

    Raises:
        RequestError: INVALID_ARGUMENT, they are not what the signature takes;
            UNIMPLEMENTED, a tensor's type cannot be written in JSON.
    """
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {dump(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid(
                f"JSON Value: {dump(document)} Excepting 'instances' to be an list/array"
            )
        if not rows:
            raise invalid(
                f"JSON Value: {dump(document)} No values in 'instances' array"
            )
        return _from_rows(rows, inputs), True
    if "inputs" in document:
        return _from_columns(document["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


class _Tensor:
    """Values of one tensor, as they are read."""

    def __init__(self, dtype: int) -> None:
        self.dtype = dtype
        self.values: list[Any] = []
        self.shape: tuple[int, ...] | None = None
        self._decode = value_decoder(dtype)

    def add(self, value: Any) -> None:
        """Appends an element, of the shape of those before."""
        shape = _shape(value)
        self._fill(value, 0, shape)
        if self.shape is None:
            self.shape = shape
            return
        size, expected = math.prod(shape), math.prod(self.shape)
        if size != expected:
            raise invalid(f"Expecting tensor size: {expected} but got: {size}")
        if shape != self.shape:
            raise invalid(
                f"Expecting shape {_shape_text(self.shape)} but got: {_shape_text(shape)}"
            )

    def array(self, *leading: int) -> np.ndarray:
        """The values, ``[*leading, *shape]``."""
        shape = (*leading, *(self.shape or ()))
        if self.dtype == types_pb2.DT_STRING:
            array = np.empty(len(self.values), dtype=object)
            array[:] = self.values
            return array.reshape(shape)
        dtype = tf.dtypes.as_dtype(self.dtype).as_numpy_dtype
        wide = np.int32 if self.dtype in _NARROW else dtype
        return np.array(self.values, dtype=wide).astype(dtype).reshape(shape)

    def _fill(self, value: Any, level: int, shape: tuple[int, ...]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                raise invalid(
                    f"JSON Value: {dump(value)} found at incorrect level: {level + 1} in "
                    f"the JSON DOM. Expected at level: {len(shape)}"
                )
            self.values.append(self._decode(value))
            return
        if level >= len(shape):
            raise invalid(
                f"Encountered list at unexpected level: {level} expected < {len(shape)}"
            )
        if len(value) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} "
                f"expected size: {shape[level]}"
            )
        for element in value:
            self._fill(element, level + 1, shape)


def _from_rows(
    rows: list[Any], inputs: Mapping[str, meta_graph_pb2.TensorInfo]
) -> dict[str, np.ndarray]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input "
            "tensors required as per tensorinfo_map"
        )
    named = _is_named(rows[0])
    tensors: dict[str, _Tensor] = {}
    only = min(inputs)
    for number, row in enumerate(rows):
        if _is_named(row) != named:
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(
                f"Expecting {wanted} but got {got} at item {number} of input list"
            )
        for name, value in row.items() if named else [(only, row)]:
            try:
                if name not in inputs:
                    raise invalid(f"JSON object: does not have named input: {name}")
                if name not in tensors:
                    tensors[name] = _Tensor(inputs[name].dtype)
                tensors[name].add(value)
            except RequestError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {number}{key} of 'instances' list. "
                    f"Error: {error.code.name}: {error.message}"
                ) from None
        if named and set(row) != set(inputs):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{dump(row)} must only have keys: {','.join(sorted(inputs))}"
            )
    return {name: tensor.array(len(rows)) for name, tensor in tensors.items()}


def _from_columns(
    value: Any, inputs: Mapping[str, meta_graph_pb2.TensorInfo]
) -> dict[str, np.ndarray]:
    if not _is_named(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input "
                "tensors required as per tensorinfo_map"
            )
        value = {next(iter(inputs)): value}
    arrays = {}
    for name in sorted(inputs):
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        tensor = _Tensor(inputs[name].dtype)
        tensor.add(value[name])
        arrays[name] = tensor.array()
    return arrays


def _is_named(value: Any) -> bool:
    """Whether a value is an object with tensors by name, and not bytes."""
    return isinstance(value, dict) and not is_bytes(value)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that the first element of every list suggests."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > _MAX_RANK:
        raise invalid(f"Encountered list at unexpected level: {_MAX_RANK}")
    return tuple(shape)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(str(length) for length in shape) + "]"
