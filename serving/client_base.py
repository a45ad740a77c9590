"""What the two clients share: whom they ask, how, and what a failure says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.serving import predict_pb2 as wire
from adaptiverec.serving.client_credentials import channel_credentials
from adaptiverec.serving.client_requests import Call

__all__ = ["PREDICT", "ClientBase", "ServerError", "channel_options"]

Answer = TypeVar("Answer")

PREDICT = "/tensorflow.serving.PredictionService/Predict"

# gRPC itself takes no more.
_MOST_ATTEMPTS = 5
_RETRIED = ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
# Requests beyond this are sent once: gRPC keeps a copy until there is an answer.
_RETRY_BUFFER_BYTES = 64 * 2**20

_HINTS = {
    "UNAVAILABLE": "Is it running, at that address, and with TLS if the client has it "
    "and only then?",
    "DEADLINE_EXCEEDED": "A longer timeout, or fewer histories in a request, may help.",
    "RESOURCE_EXHAUSTED": "It has more to do than it takes; ask less at once, or later.",
    # By gRPC, of calls that the server has not even looked at.
    "CANCELLED": "It may have more to do than it takes, or be stopping; ask later.",
    "NOT_FOUND": "Name and version must be those of a model that it serves.",
    "FAILED_PRECONDITION": "The model must be one that `adaptiverec export` wrote.",
    "UNIMPLEMENTED": "It must be TensorFlow Serving's gRPC port, not that of REST.",
    "OK": "The model must be one that `adaptiverec export` wrote.",
}


class ServerError(StageError):
    """The server did not give an answer, or not one of a recommender.

    Attributes:
        server: The address that was asked.
        code: The name of the gRPC status code, such as ``"NOT_FOUND"``.
        details: The server's own message.
        hint: What may help, or "".
    """

    def __init__(self, server: str, code: str, details: str) -> None:
        hint = _HINTS.get(code, "")
        super().__init__(
            "The server must answer with recommendations. "
            f"{hint}{' ' if hint else ''}Received: {code} from {server}: {details}"
        )
        self.server = server
        self.code = code
        self.details = details
        self.hint = hint


class ClientBase:
    """The arguments of both clients, checked; see :class:`RecommenderClient`."""

    def __init__(
        self,
        server: str,
        model: str = "default",
        *,
        timeout: float = 5.0,
        version: int | None = None,
        label: str | None = None,
        max_attempts: int = 5,
        batch_size: int = 128,
        in_flight: int = 4,
        tls: bool = False,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
        tls_server_name: str | None = None,
    ) -> None:
        if not server:
            raise InvalidValueError(
                "server must be an address HOST:PORT. Received: server=''"
            )
        if not model:
            raise InvalidValueError("model must not be empty. Received: model=''")
        if version is not None and version < 0:
            raise InvalidValueError(
                f"version must not be negative. Received: version={version}"
            )
        if label is not None and (not label or version is not None):
            raise InvalidValueError(
                "label must not be empty, nor given together with version. Received: "
                f"label={label!r}, version={version}"
            )
        if not 1 <= max_attempts <= _MOST_ATTEMPTS:
            raise InvalidValueError(
                f"max_attempts must be from 1 to {_MOST_ATTEMPTS}. Received: "
                f"max_attempts={max_attempts}"
            )
        for name, number in (("batch_size", batch_size), ("in_flight", in_flight)):
            if number < 1:
                raise InvalidValueError(
                    f"{name} must be at least 1. Received: {name}={number}"
                )
        self._timeout = _checked_timeout(timeout)
        self._server = server
        self._spec = wire.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        if label is not None:
            self._spec.version_label = label
        self._batch_size = batch_size
        self._in_flight = in_flight
        self._credentials = channel_credentials(
            tls=tls,
            ca=tls_ca,
            certificate=tls_certificate,
            key=tls_key,
            server_name=tls_server_name,
        )
        self._options = channel_options(max_attempts, tls_server_name)
        self._closed = False
        self._connect()

    def _connect(self) -> None:
        """Opens the channel, if it is to be open from the start."""

    @property
    def model_spec(self) -> wire.ModelSpec:
        """Name and version of the model, as requests have them."""
        return wire.ModelSpec.FromString(self._spec.SerializeToString())

    def _deadline(self, timeout: float | None) -> float:
        if self._closed:
            raise InvalidValueError(
                "A client must not be used after close(). Received: a call to "
                f"{self._server}"
            )
        return self._timeout if timeout is None else _checked_timeout(timeout)

    def _read(
        self, call: Call[Answer], response: wire.PredictResponse
    ) -> Sequence[Answer]:
        try:
            return call.read(response)
        except (IndexError, ValueError) as error:
            raise ServerError(
                self._server,
                "OK",
                f"an answer that is not a recommender's: {error}",
            ) from error

    def _failure(self, error: grpc.RpcError) -> ServerError:
        return ServerError(
            self._server, error.code().name, error.details() or "no message"
        )

    def _stub(self, channel: Any) -> Any:
        """The method of a channel, whether it is one of asyncio or not."""
        return channel.unary_unary(
            PREDICT,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )


def _checked_timeout(timeout: float) -> float:
    if not 0 < timeout < float("inf"):
        raise InvalidValueError(
            f"timeout must be more than 0 seconds, and finite. Received: "
            f"timeout={timeout}"
        )
    return timeout


def channel_options(
    max_attempts: int, tls_server_name: str | None
) -> list[tuple[str, Any]]:
    """How a channel sends, waits and repeats; arguments as the client's own."""
    options: list[tuple[str, Any]] = [
        # Answers to large batches pass gRPC's default of 4 MiB.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # By default a second, longer than all attempts but the last would wait.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5000),
    ]
    if tls_server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls_server_name))
    if max_attempts == 1:
        return [*options, ("grpc.enable_retries", 0)]
    # gRPC's own: within the deadline, each wait drawn about twice the one before.
    policy = {
        "maxAttempts": max_attempts,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": _RETRIED,
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
    return [
        *options,
        ("grpc.enable_retries", 1),
        ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        ("grpc.service_config", json.dumps(config)),
    ]
