"""Answers REST requests: from method, path and body to a status and a body."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    model_pb2,
    regression_pb2,
)

from adaptiverec.serving.observer import Observer
from adaptiverec.serving.rest_decode import decode_signature_name, decode_tensors
from adaptiverec.serving.rest_encode import (
    encode_classifications,
    encode_columns,
    encode_error,
    encode_regressions,
    encode_rows,
)
from adaptiverec.serving.rest_examples import decode_examples
from adaptiverec.serving.rest_json import invalid, parse_object
from adaptiverec.serving.rest_paths import Route, parse_route
from adaptiverec.serving.server_core import ServerCore
from adaptiverec.serving.status import RequestError

__all__ = ["Answer", "RestHandler"]

_log = logging.getLogger(__name__)

_DEFAULT_SIGNATURE = "serving_default"

_HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True)
class Answer:
    """What goes back over HTTP.

    Attributes:
        status: The HTTP status.
        body: The body.
        content_type: Of the body.
    """

    status: int
    body: bytes
    content_type: str = "application/json"


class RestHandler:
    """TensorFlow Serving's REST API over the models of a server. Thread-safe.

    Args:
        core: The models.
        timeout: Seconds that a graph may run for a request, or None.
        observer: Told of each request.
    """

    def __init__(
        self, core: ServerCore, *, timeout: float | None, observer: Observer
    ) -> None:
        self._core = core
        self._timeout = timeout
        self._observer = observer

    def handle(self, method: str, path: str, body: bytes) -> Answer:
        """Answers one request; errors too are answers.

        Args:
            method: The HTTP method.
            path: The path as it was sent, with the query, if any.
            body: The body, no longer compressed.

        Returns:
            The answer: JSON, ``{"error": "..."}`` where there is none.
        """
        start = time.monotonic()
        code, route = grpc.StatusCode.OK, None
        try:
            route = parse_route(method, path)
            content = self._run(route, body)
        except RequestError as error:
            code, content = error.code, encode_error(error.message)
        except Exception as error:
            # A bug. Requests are not logged, since they are people's data.
            _log.exception("%s failed", route.action if route else "a request")
            code = grpc.StatusCode.INTERNAL
            content = encode_error(f"{type(error).__name__}")
        if route is not None and method == "POST":
            self._observer.request(
                route.spec.name,
                route.action.capitalize(),
                "REST",
                code,
                time.monotonic() - start,
            )
        return Answer(_HTTP_STATUS.get(code, 500), content)

    def _run(self, route: Route, body: bytes) -> bytes:
        if route.action == "status":
            return self._status(route.spec)
        if route.action == "metadata":
            return self._metadata(route.spec)
        # There, tensors are looked up by their names, and features are put under them.
        document = parse_object(body, keep_first=route.action == "predict")
        route.spec.signature_name = decode_signature_name(document)
        if route.action == "predict":
            return self._predict(route.spec, document)
        if route.action == "classify":
            return self._classify(route.spec, document)
        return self._regress(route.spec, document)

    def _predict(self, spec: model_pb2.ModelSpec, document: dict[str, Any]) -> bytes:
        name = spec.signature_name or _DEFAULT_SIGNATURE
        with self._core.use(spec) as servable:
            signature = servable.signatures.get(name)
            if signature is None:
                raise invalid(
                    f'Serving signature name: "{name}" not found in signature def'
                )
            if not signature.inputs:
                raise invalid(
                    "Failed to get input map for signature: "
                    f"{spec.signature_name or 'DEFAULT'}"
                )
            tensors, by_row = decode_tensors(document, signature.inputs)
            outputs = servable.run(name, tensors, timeout=self._timeout)
        return encode_rows(outputs) if by_row else encode_columns(outputs)

    def _classify(self, spec: model_pb2.ModelSpec, document: dict[str, Any]) -> bytes:
        request = classification_pb2.ClassificationRequest(
            model_spec=spec, input=decode_examples(document)
        )
        with self._core.use(spec) as servable:
            result = servable.classify(request, timeout=self._timeout).result
        return encode_classifications(
            [
                [(entry.label, entry.score) for entry in classifications.classes]
                for classifications in result.classifications
            ]
        )

    def _regress(self, spec: model_pb2.ModelSpec, document: dict[str, Any]) -> bytes:
        request = regression_pb2.RegressionRequest(
            model_spec=spec, input=decode_examples(document)
        )
        with self._core.use(spec) as servable:
            result = servable.regress(request, timeout=self._timeout).result
        return encode_regressions([entry.value for entry in result.regressions])

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        statuses = [
            {
                "version": str(entry.version),
                "state": entry.state.name,
                "status": {
                    "error_code": entry.code.name,
                    "error_message": entry.message,
                },
            }
            for entry in self._core.status(spec)
        ]
        return _json({"model_version_status": statuses})

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._core.use(spec) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            model_spec = {
                "name": servable.name,
                "signature_name": "",
                "version": str(servable.version),
            }
        written = json_format.MessageToDict(
            signatures,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return _json({"model_spec": model_spec, "metadata": {"signature_def": written}})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(
        errors="replace"
    )
