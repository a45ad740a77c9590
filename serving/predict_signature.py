"""A signature as Predict requests use it, looked up once and not at each request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from adaptiverec.serving.signatures import predict_feeds, predict_outputs
from adaptiverec.serving.tensors import array_from_proto

__all__ = ["PredictCall", "PredictSignature"]


class PredictCall(NamedTuple):
    """A run of the graph that a request asks for.

    Attributes:
        feeds: The array for each tensor that is fed, by its name in the graph.
        aliases: What the request calls the outputs.
        fetches: What the graph calls them.
        inputs: What the signature says of its inputs.
    """

    feeds: dict[str, np.ndarray]
    aliases: list[str]
    fetches: list[str]
    inputs: Iterable[meta_graph_pb2.TensorInfo]


class PredictSignature:
    """Gives what requests of a signature feed and fetch. Thread-safe.

    Args:
        signature: The signature.

    Raises:
        RequestError: INVALID_ARGUMENT, a default is not a tensor.
    """

    def __init__(self, signature: meta_graph_pb2.SignatureDef) -> None:
        self._signature = signature
        self._types = {
            info.name: np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
            for info in signature.inputs.values()
        }
        self._inputs = [
            (alias, signature.inputs[alias].name) for alias in sorted(signature.inputs)
        ]
        self._defaults = {
            alias: array_from_proto(proto, name=alias)
            for alias, proto in signature.defaults.items()
        }
        self._outputs = {alias: info.name for alias, info in signature.outputs.items()}
        self._all = sorted(self._outputs)

    def call(
        self,
        inputs: Mapping[str, np.ndarray | tensor_pb2.TensorProto],
        output_filter: Sequence[str],
    ) -> PredictCall:
        """What to run for a request.

        Args:
            inputs: What it gives, by alias.
            output_filter: The outputs wanted, by alias; all where empty.

        Raises:
            RequestError: INVALID_ARGUMENT, these are not the signature's, or not tensors.
        """
        feeds = self._feeds(inputs)
        aliases = self._all
        if output_filter:
            aliases = predict_outputs(self._signature, output_filter)
        fetches = [self._outputs[name] for name in aliases]
        return PredictCall(feeds, aliases, fetches, self._signature.inputs.values())

    def has_types(self, feeds: Mapping[str, np.ndarray]) -> bool:
        """Whether all arrays have the types of the graph's tensors."""
        types = self._types
        return all(value.dtype == types[name] for name, value in feeds.items())

    def _feeds(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        feeds = {}
        used = 0
        for alias, name in self._inputs:
            if alias in inputs:
                used += 1
                value = inputs[alias]
                if not isinstance(value, np.ndarray):
                    value = array_from_proto(value, name=alias)
                feeds[name] = value
            elif alias in self._defaults:
                # A copy: an op may write to what it is fed.
                feeds[name] = self._defaults[alias].copy()
        if used != len(inputs) or len(feeds) != len(self._inputs):
            # It says what is wrong.
            return predict_feeds(self._signature, inputs)
        return feeds
