"""One version of a model in memory: a SavedModel and the session that runs it."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from adaptiverec.serving.status import RequestError, status_code
from adaptiverec.serving.tensors import (
    array_from_proto,
    dtype_name,
    proto_from_array,
)
from adaptiverec.serving.warmup import warmup_requests

__all__ = ["Servable"]

_DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


class Servable:
    """A loaded SavedModel that answers Predict requests. Thread-safe.

    It runs in a TF1 session over a graph of its own, as in tensorflow_model_server:
    errors are those of the same C++ code, two versions share nothing, and closing frees
    the memory of one.

    Args:
        name: The name of the model, for answers.
        version: The version, for answers.
        path: The SavedModel directory, with the tag ``serve``.
        warm_up: Whether to run the requests of its warm-up file, so that the first
            caller does not wait for what TensorFlow does once.

    Raises:
        RequestError: The SavedModel cannot be loaded, or a warm-up request fails.

    Attributes:
        signatures: The SignatureDef of each signature, by name.
    """

    def __init__(
        self, name: str, version: int, path: Path, *, warm_up: bool = True
    ) -> None:
        self.name = name
        self.version = version
        self._lock = threading.Lock()
        self._callables: dict[tuple[str, ...], Any] = {}
        graph = tf.Graph()
        # Two versions are in memory during a swap: neither may take the whole GPU.
        config = tf.compat.v1.ConfigProto(
            gpu_options=tf.compat.v1.GPUOptions(allow_growth=True)
        )
        session = tf.compat.v1.Session(graph=graph, config=config)
        self._session: tf.compat.v1.Session | None = session
        try:
            with graph.as_default(), _without_deprecation_note():
                meta_graph = tf.compat.v1.saved_model.loader.load(
                    session, [tf.saved_model.SERVING], str(path)
                )
            # Copies: the meta graph holds the whole graph and is dropped.
            self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {}
            for key, signature in meta_graph.signature_def.items():
                self.signatures[key] = meta_graph_pb2.SignatureDef()
                self.signatures[key].CopyFrom(signature)
            del meta_graph, session
            # Ops are only looked up from now on.
            graph.finalize()
            if warm_up:
                for request in warmup_requests(path):
                    self.predict(request)
        except BaseException as error:
            self.close()
            if isinstance(error, RequestError) or not isinstance(error, Exception):
                raise
            raise _load_error(path, error) from error

    def predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        """Runs a signature of the model.

        Args:
            request: The signature's name (``serving_default`` where empty), one tensor
                for each of its inputs, and the outputs wanted (all where empty). The
                model's name and version in it are not looked at.

        Returns:
            The outputs, their values in the typed fields, and who answered.

        Raises:
            RequestError: FAILED_PRECONDITION, the model has no such signature;
                INVALID_ARGUMENT, the inputs or outputs are not the signature's; the
                code and message of the op, where one fails.
        """
        signature_name = request.model_spec.signature_name or _DEFAULT_SIGNATURE
        signature = self.signatures.get(signature_name)
        if signature is None:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature_name}" not found.',
            )
        feeds = _feeds(signature, request)
        aliases = _output_aliases(signature, request)
        fetches = [signature.outputs[alias].name for alias in aliases]
        try:
            values = self._callable(feeds, fetches)(*feeds.values())
        except tf.errors.OpError as error:
            raise RequestError(status_code(error.error_code), error.message) from error
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = signature_name
        for alias, value in zip(aliases, values, strict=True):
            response.outputs[alias].CopyFrom(proto_from_array(value))
        return response

    def close(self) -> None:
        """Frees the memory. Requests that still run are cancelled."""
        with self._lock:
            session, self._session = self._session, None
            self._callables.clear()
        if session is None:
            return
        session.close()
        # That has freed the variables. The graph, with its constants, is in reference
        # cycles, which might not be collected for as long as the server runs.
        del session
        gc.collect()

    def _callable(self, feeds: Iterable[str], fetches: list[str]) -> Any:
        key = (*feeds, "", *fetches)
        with self._lock:
            if self._session is None:
                raise RequestError(
                    grpc.StatusCode.CANCELLED,
                    f"version {self.version} of {self.name} has been unloaded",
                )
            if key not in self._callables:
                options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                # Each request runs in its own thread. In TensorFlow's shared pool, with
                # a thread a core, a few slow requests hold up all others.
                options.run_options.inter_op_thread_pool = -1
                # The public make_callable() goes through Session.run(), which takes
                # 0.3 ms more a request and checks shapes that the ops check too.
                self._callables[key] = self._session._make_callable_from_options(
                    options
                )
            return self._callables[key]


def _feeds(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> dict[str, Any]:
    """The array to feed for each tensor name, checked against the signature."""
    expected, received = set(signature.inputs), set(request.inputs)
    missing = expected - received - set(signature.defaults)
    if missing or received - expected:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"input size does not match signature: {len(received)}!={len(expected)} "
            f"len({_set(received)}) != len({_set(expected)}). Sent extra: "
            f"{_set(received - expected)}. Missing but required: {_set(missing)}.",
        )
    feeds = {}
    for alias in sorted(expected):
        info = signature.inputs[alias]
        source = request.inputs if alias in received else signature.defaults
        proto = source[alias]
        if proto.dtype != info.dtype:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input {alias} must be {dtype_name(info.dtype)} as in the signature. "
                f"Received: {dtype_name(proto.dtype)}",
            )
        feeds[info.name] = array_from_proto(proto, name=alias)
    return feeds


def _output_aliases(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> list[str]:
    wanted = list(request.output_filter)
    for alias in wanted:
        if alias not in signature.outputs:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {alias} Outputs expected "
                f"to be in the set {_set(signature.outputs)}.",
            )
    if len(set(wanted)) < len(wanted):
        duplicate = next(alias for alias in wanted if wanted.count(alias) > 1)
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"duplicate output tensor alias: {duplicate}",
        )
    return wanted or sorted(signature.outputs)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


@contextmanager
def _without_deprecation_note() -> Iterator[None]:
    """The loader is deprecated for training; TensorFlow Serving uses it as ever."""

    def keep(record: logging.LogRecord) -> bool:
        return "is deprecated" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _load_error(path: Path, error: Exception) -> RequestError:
    if isinstance(error, tf.errors.OpError):
        return RequestError(status_code(error.error_code), error.message)
    if isinstance(error, OSError):
        # How the loader says that it found no SavedModel, or none that it can parse.
        found = any(path.glob("saved_model.pb*"))
        code = grpc.StatusCode.DATA_LOSS if found else grpc.StatusCode.NOT_FOUND
        return RequestError(code, str(error))
    return RequestError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
