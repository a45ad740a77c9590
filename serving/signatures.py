"""Which tensors of the graph a request feeds and fetches, by its signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from adaptiverec.serving.status import RequestError
from adaptiverec.serving.tensors import array_from_proto, dtype_name

__all__ = [
    "CLASSIFY_METHOD",
    "DEFAULT_SIGNATURE",
    "PREDICT_METHOD",
    "REGRESS_METHOD",
    "braces",
    "check_types",
    "predict_feeds",
    "predict_outputs",
    "predict_signature",
]

DEFAULT_SIGNATURE = "serving_default"

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

Tensor: TypeAlias = np.ndarray | tensor_pb2.TensorProto


def predict_signature(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef],
    name: str,
    *,
    check_method_name: bool = False,
) -> meta_graph_pb2.SignatureDef:
    """The signature of a Predict request.

    Args:
        signatures: Those of the model.
        name: Its name, not empty.
        check_method_name: Whether its method must be one of TensorFlow Serving's.

    Raises:
        RequestError: FAILED_PRECONDITION, there is none; INTERNAL, another method.
    """
    signature = signatures.get(name)
    if signature is None:
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{name}" not found.',
        )
    methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if check_method_name and signature.method_name not in methods:
        raise RequestError(
            grpc.StatusCode.INTERNAL,
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(methods)}}}. Was: {signature.method_name}",
        )
    return signature


def predict_feeds(
    signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """The array to feed for each tensor name, in the order of the aliases.

    An input that the request leaves out has the signature's default, if there is one.

    Args:
        signature: The signature.
        inputs: What the request gives, by alias.

    Raises:
        RequestError: INVALID_ARGUMENT, they are not the signature's, or not tensors.
    """
    expected = sorted(signature.inputs)
    if len(inputs) > len(expected) or (
        len(inputs) < len(expected) and not signature.defaults
    ):
        extra = set(inputs) - set(expected)
        missing = set(expected) - set(inputs)
        raise _invalid(
            f"input size does not match signature: {len(inputs)}!={len(expected)} "
            f"len({braces(inputs)}) != len({braces(expected)}). Sent extra: "
            f"{braces(extra)}. Missing but required: {braces(missing)}."
        )
    feeds = {}
    used = []
    for alias in expected:
        name = signature.inputs[alias].name
        value: Any
        if alias in inputs:
            value = inputs[alias]
            used.append(alias)
        elif alias in signature.defaults:
            value = signature.defaults[alias]
        else:
            raise _invalid(
                f"Signature input alias: {alias}(feed name: {name}) not found in request "
                "and no default value provided. Inputs expected to be in the request "
                f"{braces(inputs)}, or default input alias set: "
                f"{','.join(sorted(signature.defaults))}"
            )
        if not isinstance(value, np.ndarray):
            value = array_from_proto(value, name=alias)
        feeds[name] = value
    if len(used) != len(inputs):
        raise _invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(used)}, "
            f"request input: {','.join(sorted(inputs))}"
        )
    return feeds


def check_types(
    inputs: Iterable[meta_graph_pb2.TensorInfo], feeds: Mapping[str, np.ndarray]
) -> None:
    """Raises where a tensor has another type than the graph's.

    Args:
        inputs: What the graph takes.
        feeds: The array to feed for each of them, by name.

    Raises:
        RequestError: INVALID_ARGUMENT, with the words of TensorFlow's session, which
            numbers the tensors by their names.
    """
    for position, info in enumerate(sorted(inputs, key=lambda info: info.name)):
        received = tf.dtypes.as_dtype(feeds[info.name].dtype).as_datatype_enum
        if received != info.dtype:
            raise _invalid(
                f"Expects arg[{position}] to be {_short_name(info.dtype)} but "
                f"{_short_name(received)} is provided"
            )


def predict_outputs(
    signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]
) -> list[str]:
    """The aliases of the outputs wanted: those of the filter, or all.

    Raises:
        RequestError: INVALID_ARGUMENT, the filter has one that is not the signature's, or
            one twice.
    """
    if not output_filter:
        return sorted(signature.outputs)
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected "
                f"to be in the set {braces(signature.outputs)}."
            )
        if alias in seen:
            raise _invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    # One order for all: what is prepared for a set of outputs is prepared once.
    return sorted(seen)


def braces(names: Iterable[str]) -> str:
    """Names as TensorFlow Serving lists them: ``{a,b}``."""
    return "{" + ",".join(sorted(names)) + "}"


def _short_name(dtype: int) -> str:
    """How TensorFlow's C++ calls a type: DT_FLOAT is float."""
    return dtype_name(dtype).removeprefix("DT_").lower()


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
