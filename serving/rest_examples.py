"""The examples of Classify and Regress requests, from JSON to tf.train.Example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorflow_serving.apis import input_pb2

from adaptiverec.serving.rest_json import dump, invalid, is_number, type_name
from adaptiverec.serving.rest_values import (
    decode_bytes,
    decode_float,
    decode_string,
    is_bytes,
)

__all__ = ["decode_examples"]


def decode_examples(document: Mapping[str, Any]) -> input_pb2.Input:
    """Reads the examples of a Classify or Regress request, and their context, if any.

    Raises:
        RequestError: INVALID_ARGUMENT, they are no examples.
    """
    result = input_pb2.Input()
    examples: Any = result.example_list.examples
    if "context" in document:
        _fill_example(
            document["context"], result.example_list_with_context.context.features
        )
        examples = result.example_list_with_context.examples
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {dump(document)} When method is classify, key 'examples' is "
            "expected and was not found"
        )
    values = document["examples"]
    if not isinstance(values, list):
        raise invalid(
            f"JSON Value: {dump(document)} Expecting 'examples' value to be an list/array"
        )
    if not values:
        raise invalid(
            f"JSON Value: {dump(document)} 'examples' value is an empty array"
        )
    for value in values:
        _fill_example(value, examples.add().features)
    return result


def _fill_example(value: Any, features: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        # A feature without values is there, too.
        feature = features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _add_to_feature(element, name, feature)


def _add_to_feature(value: Any, name: str, feature: Any) -> None:
    read: Any
    if isinstance(value, str):
        kind, read = "bytes", decode_string(value)
    elif is_bytes(value):
        kind, read = "bytes", decode_bytes(value)
    elif isinstance(value, bool):
        kind, read = "int64", int(value)
    elif isinstance(value, int) and -(2**63) <= value < 2**64:
        if value >= 2**63:
            raise invalid(
                f"Feature: {name} has uint64 element. Only int64 is supported."
            )
        kind, read = "int64", value
    elif is_number(value):
        kind, read = "float", decode_float(value, single=True)
    else:
        raise invalid(
            f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
        )
    before = feature.WhichOneof("kind")
    if before not in (None, f"{kind}_list"):
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{before.removesuffix('_list')}"
        )
    getattr(feature, f"{kind}_list").value.append(read)
